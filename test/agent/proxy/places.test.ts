import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FairGate } from "../../../src/agent/proxy/fair-gate.ts";
import { Places } from "../../../src/agent/proxy/places.ts";
import { Lane, PortShare, type Turn } from "../../../src/agent/proxy/port-share.ts";

const MANY = 2_000;

/** A nova that does so many things at once, each of which takes that long. */
function answered(places: Places, count: number, [atOnce, warmMs]: readonly [number, number]): void {
  for (let at = 0; at < count; at++) {
    const ms = warmMs * Math.max(1, places.limit / atOnce);
    places.answered({ ms, effort: "warm", beside: places.limit }, true);
  }
}

function alone(places: Places, ms: number, effort: "warm" | "cold" = "warm"): void {
  places.answered({ ms, effort, beside: 1 }, false);
}

describe("how many questions a nova gets at a time", () => {
  it("is more where more make it no slower, up to a bound", () => {
    const places = new Places();
    alone(places, 200);
    answered(places, MANY, [1_000, 200]);
    expect(places.limit).toBe(128);
  });

  it("is no more than what it does at once needs, where more make it slower", () => {
    const places = new Places();
    alone(places, 30);
    answered(places, MANY, [1, 30]);
    expect(places.limit).toBe(8);
    const larger = new Places();
    alone(larger, 30);
    answered(larger, MANY, [32, 30]);
    expect(larger.limit).toBeGreaterThanOrEqual(32);
    expect(larger.limit).toBeLessThanOrEqual(96);
  });

  it("stays as it is where nothing is known of what one question takes", () => {
    const places = new Places();
    answered(places, MANY, [1, 30]);
    expect(places.limit).toBe(16);
  });

  it("is more where nova is fast in any case", () => {
    const places = new Places();
    answered(places, MANY, [1, 0.05]);
    expect(places.limit).toBe(128);
  });

  it("does not take what nova builds for slowness", () => {
    const places = new Places();
    alone(places, 5);
    alone(places, 300, "cold");
    for (let at = 0; at < MANY; at++) places.answered({ ms: 300, effort: "cold", beside: 20 }, true);
    expect(places.limit).toBe(128);
  });

  it("follows a nova that has become slower, and one that has recovered", () => {
    const places = new Places();
    alone(places, 20);
    answered(places, MANY, [1_000, 20]);
    expect(places.limit).toBe(128);
    answered(places, MANY, [4, 20]);
    expect(places.limit).toBeLessThan(20);
    answered(places, MANY, [1_000, 20]);
    expect(places.limit).toBe(128);
  });

  it("is not changed by few questions, nor by documents that somebody else is asked for", () => {
    const places = new Places();
    alone(places, 5);
    for (let at = 0; at < MANY; at++) {
      places.answered({ ms: 500, effort: "warm", beside: 8 }, false);
      places.answered({ ms: 9_000, effort: "slow", beside: 16 }, true);
    }
    expect(places.limit).toBe(16);
  });
});

class TestTurn implements Turn {
  readonly share: PortShare;
  lane: Lane | undefined;
  kind: Turn["kind"] = "counted";
  wanted: Lane;
  granted = () => void this.log.push(this.name);
  readonly name: string;
  readonly log: string[];

  constructor(name: string, share: PortShare, wanted: Lane, log: string[]) {
    [this.name, this.share, this.wanted, this.log] = [name, share, wanted, log];
  }

  wants(): Lane {
    return this.wanted;
  }
}

describe("the gate before two novas", () => {
  const setUp = () => {
    const [gate, a, b, log] = [new FairGate(), new Lane(), new Lane(), [] as string[]];
    const turnOf = (name: string, lane: Lane, share = new PortShare(name, 1, 0)) => {
      const turn = new TestTurn(name, share, lane, log);
      gate.enter(turn);
      return turn;
    };
    return { gate, a, b, log, turnOf };
  };

  it("lets nobody wait for the one that is not full", () => {
    const { a, b, log, turnOf } = setUp();
    for (let n = 0; n < 20; n++) turnOf(`a${n}`, a);
    expect(log).toHaveLength(16);
    turnOf("b", b);
    expect(log.at(-1)).toBe("b");
  });

  it("has those who wait for one go to the other, if they want to by then", () => {
    const { gate, a, b, log, turnOf } = setUp();
    const asked = Array.from({ length: 16 }, (_, n) => turnOf(`a${n}`, a));
    const waiting = Array.from({ length: 20 }, (_, n) => turnOf(`w${n}`, a));
    for (const turn of waiting) turn.wanted = b;
    for (const turn of asked) turn.wanted = b;
    const [first] = asked;
    if (first !== undefined) gate.leave(first);
    expect(log.slice(16)).toEqual(Array.from({ length: 16 }, (_, n) => `w${n}`));
    for (const turn of waiting.slice(0, 4)) gate.leave(turn);
    expect(log).toHaveLength(36);
  });

  it("has them go at once where the first one is no longer wanted at all", () => {
    const { gate, a, b, log, turnOf } = setUp();
    for (let n = 0; n < 16; n++) turnOf(`a${n}`, a);
    const waiting = Array.from({ length: 3 }, (_, n) => turnOf(`w${n}`, a));
    for (const turn of waiting) turn.wanted = b;
    gate.regroup(a);
    expect(log.slice(16)).toEqual(["w0", "w1", "w2"]);
  });

  it("counts who goes on to the other there, and neither twice nor in both", () => {
    const { gate, a, b, log, turnOf } = setUp();
    const asked = Array.from({ length: 16 }, (_, n) => turnOf(`a${n}`, a));
    turnOf("late", a);
    const [first] = asked;
    if (first === undefined) throw new Error("there is none");
    gate.move(first, b);
    expect([log.at(-1), a.counted, b.counted]).toEqual(["late", 16, 1]);
    gate.leave(first);
    expect([a.counted, b.counted, first.share.onWire]).toEqual([16, 0, 0]);
  });

  it("does not let others wait for what takes long, within a bound", () => {
    const { gate, a, log, turnOf } = setUp();
    const asked = Array.from({ length: 200 }, (_, n) => turnOf(`a${n}`, a));
    for (const turn of asked) gate.setAside(turn);
    for (const turn of asked) gate.setAside(turn);
    expect([log.length, a.aside + a.counted]).toEqual([128, 128]);
    for (const turn of asked.slice(0, 100)) gate.leave(turn);
    expect([log.length, a.counted]).toEqual([144, 16]);
  });

  it("gives one port no more than half of the places", () => {
    const { a, log, turnOf } = setUp();
    const share = new PortShare("greedy", 1, 0);
    for (let n = 0; n < 20; n++) turnOf("greedy", a, share);
    expect(log).toHaveLength(8);
    turnOf("other", a);
    expect(log.at(-1)).toBe("other");
  });

  it("loses no place and no turn, whatever happens in which order", () => {
    const step = fc.tuple(fc.nat(6), fc.nat(39), fc.boolean());
    const property = fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const { gate, a, b, log, turnOf } = setUp();
      const shares = Array.from({ length: 5 }, (_, n) => new PortShare(`p${n}`, 1, 0));
      const turns: TestTurn[] = [];
      for (const [what, which, toB] of steps) {
        const lane = toB ? b : a;
        const turn = turns[which % Math.max(1, turns.length)];
        if (what <= 1 || turn === undefined) turns.push(turnOf(`t${log.length}`, lane, shares[which % 5]));
        else if (what === 2) gate.leave(turns.splice(turns.indexOf(turn), 1)[0] as TestTurn);
        else if (what === 3) gate.setAside(turn);
        else if (what === 4) gate.move(turn, lane);
        else if (what === 5) turn.wanted = lane;
        else gate.regroup(lane);
      }
      const granted = turns.filter(({ lane }) => lane !== undefined);
      expect(a.counted + a.aside + b.counted + b.aside).toBe(granted.length);
      for (const share of shares) {
        const own = granted.filter((turn) => turn.share === share);
        expect([share.onWire, share.counted]).toEqual([
          own.length,
          own.filter(({ kind }) => kind === "counted").length,
        ]);
      }
      while (turns.length > 0) {
        const at = turns.findIndex(({ lane }) => lane !== undefined);
        expect(at).toBeGreaterThanOrEqual(0);
        gate.leave(turns.splice(at, 1)[0] as TestTurn);
      }
      expect([a.counted, a.aside, b.counted, b.aside]).toEqual([0, 0, 0, 0]);
    });
    fc.assert(property, { numRuns: 300 });
  });
});
