// The guests of memory.ts, a process in their own namespace: boots and agents that ask now and then.
//   memory-guests.ts GUESTS REQUESTS_PER_SECOND
import { Agent, get } from "node:http";
import { memberOf } from "../../test/support/crowd.ts";

/** What the guests have seen since the last time they were asked. */
export interface GuestsReport {
  readonly answered: number;
  readonly failed: number;
  readonly mebibytes: number;
}

/** What cloud-init and agents in guests ask for; `user_data` is 64 KiB. */
const PATHS = [
  "/openstack",
  "/openstack/latest/",
  "/openstack/latest/meta_data.json",
  "/openstack/latest/network_data.json",
  "/openstack/latest/vendor_data.json",
  "/openstack/latest/user_data",
  "/latest/meta-data/",
  "/latest/meta-data/instance-id",
  "/latest/meta-data/local-ipv4",
  "/latest/meta-data/placement/availability-zone",
];
const EVERY_MS = 5;

const [, , guests = "", perSecond = ""] = process.argv;
/** Half of all connections stay open as long as the other side lets them. */
const kept = new Agent({ keepAlive: true });
let seen = { answered: 0, failed: 0, mebibytes: 0 };
let asked = 0;
const beganAt = performance.now();

setInterval(() => {
  const due = ((performance.now() - beganAt) / 1_000) * Number(perSecond);
  for (; asked < due; asked++) ask(asked);
}, EVERY_MS);
process.on("message", () => {
  process.send?.(seen satisfies GuestsReport);
  seen = { answered: 0, failed: 0, mebibytes: 0 };
});

function ask(turn: number): void {
  const [localAddress] = memberOf(Math.floor(Math.random() * Number(guests))).fixedAddresses;
  const path = PATHS[turn % PATHS.length];
  const agent = turn % 2 === 0 ? kept : false;
  get({ host: "169.254.169.254", path, localAddress, agent, timeout: 10_000 }, (response) => {
    response.on("data", (chunk: Buffer) => {
      seen.mebibytes += chunk.length / 2 ** 20;
    });
    response.on("error", () => seen.failed++);
    response.on("end", () => {
      if (response.statusCode === 200) seen.answered++;
      else seen.failed++;
    });
  })
    .on("timeout", function (this: ReturnType<typeof get>) {
      this.destroy(new Error("no answer in 10 s"));
    })
    .on("error", () => seen.failed++);
}
