import { describe, expect, test } from "vitest";
import { Outbox } from "../../../src/agent/proxy/outbox.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("what is sent at the end of a turn", () => {
  test("is sent after all that the turn still does, in order, once", async () => {
    const outbox = new Outbox();
    const done: string[] = [];
    outbox.add({ flush: () => done.push("first") });
    queueMicrotask(() => {
      done.push("work");
      outbox.add({ flush: () => done.push("second") });
    });
    await turn();
    expect(done).toEqual(["work", "first", "second"]);
    await turn();
    expect(done).toHaveLength(3);
  });

  test("what comes up while that is done is sent in the next turn", async () => {
    const outbox = new Outbox();
    const done: string[] = [];
    const late = { flush: () => done.push("late") };
    outbox.add({ flush: () => outbox.add(late) });
    outbox.add({ flush: () => done.push("early") });
    await turn();
    expect(done).toEqual(["early"]);
    await turn();
    expect(done).toEqual(["early", "late"]);
    outbox.add(late);
    await turn();
    expect(done).toEqual(["early", "late", "late"]);
  });
});
