import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { BodyCollector, type BodyOutcome } from "../../../src/agent/proxy/body.ts";
import { PortShare } from "../../../src/agent/proxy/port-share.ts";
import { rawExchange, startLab } from "./lab.ts";

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

function collect(share: PortShare): { collector: BodyCollector; outcomes: BodyOutcome[] } {
  const outcomes: BodyOutcome[] = [];
  return { collector: new BodyCollector(share, (outcome) => outcomes.push(outcome)), outcomes };
}

const heldBytes = (): number => {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

describe("a request body", () => {
  it("in chunks of a byte takes no more memory than the port's budget has", () => {
    const share = new PortShare("a", 1, 0);
    const before = heldBytes();
    const collectors = Array.from({ length: 16 }, () => collect(share).collector);
    for (const collector of collectors)
      for (let i = 0; i < 65_000; i++) collector.bodyPart(Buffer.allocUnsafeSlow(1));
    expect(heldBytes() - before).toBeLessThan(8_000_000);
    expect(share.bodyBytes).toBeLessThanOrEqual(1024 * 1024);
    for (const collector of collectors) collector.release();
    expect(share.bodyBytes).toBe(0);
  });

  it("comes whole, whatever parts it comes in, up to 64 KiB", () => {
    for (const size of [1, 1_023, 1_025, 65_536])
      for (const step of [1, 7, 1_000, 70_000]) {
        const bytes = Buffer.from(Array.from({ length: size }, (_, i) => i % 251));
        const { collector, outcomes } = collect(new PortShare("a", 1, 0));
        for (let at = 0; at < size; at += step)
          collector.bodyPart(Buffer.from(bytes.subarray(at, at + step)));
        collector.bodyWhole();
        expect(outcomes).toEqual([{ kind: "whole", body: bytes }]);
      }
  });

  it("is over the budget when others of its port hold it all, and gives back what it held", () => {
    const share = new PortShare("a", 1, 0);
    const others = Array.from({ length: 16 }, () => collect(share).collector);
    for (const other of others) other.bodyPart(Buffer.alloc(65_000));
    const { collector, outcomes } = collect(share);
    for (let i = 0; i < 30; i++) collector.bodyPart(Buffer.alloc(1_000));
    collector.bodyWhole();
    expect(outcomes).toEqual([{ kind: "over-budget" }]);
    collector.release();
    for (const other of others) other.release();
    expect(share.bodyBytes).toBe(0);
  });

  it("reaches nova whole from chunks of a byte", async () => {
    await using lab = await startLab();
    const body = "0123456789".repeat(500);
    const chunks = [...body].map((byte) => `1\r\n${byte}\r\n`).join("");
    await rawExchange(
      lab,
      1,
      `POST /openstack HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n`,
    );
    expect(lab.nova.requests.map((request) => request.body.toString())).toEqual([body]);
  });
});
