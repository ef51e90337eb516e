import { describe, expect, it } from "vitest";
import { ask, instanceOf, startLab } from "./lab.ts";

const HOSTNAME = "/latest/meta-data/hostname";
const GUESTS = 240;
const ROUNDS = 8;

describe("many guests over the same lines to nova", () => {
  // A question that gives its place away while it is asked has others asked before it is: none over its line.
  it("each get their own, whatever they ask for and whoever waits for a place", async () => {
    const instances = Array.from({ length: GUESTS }, (_, n) => instanceOf(n + 1));
    await using lab = await startLab({ holdMs: 8_000 }, { instances, framing: "fin" });
    for (let guest = 1; guest <= GUESTS; guest++) lab.tenures.set(guest);
    lab.nova.fault = () => ({ kind: "slow", ms: 20 });
    const crawl = async (guest: number): Promise<readonly string[]> => {
      const heard: string[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        const query = (round + guest) % 3 === 0 ? "?vendor_data2" : "";
        heard.push((await ask(lab, guest, `${HOSTNAME}${query}`)).text);
      }
      return heard;
    };
    const heard = await Promise.all(Array.from({ length: GUESTS }, (_, n) => crawl(n + 1)));
    const own = Array.from({ length: GUESTS }, (_, n) =>
      Array.from({ length: ROUNDS }, () => `guest-${n + 1}`),
    );
    expect(heard).toEqual(own);
  });
});
