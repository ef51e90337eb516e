// What fairness.ts, malformed.ts and added-latency.ts set up, each a process of its own:
//   fairness-parts.ts nova | abuse KIND | ask | load MILLISECONDS TCP_PORT REQUESTS_PER_SECOND | malice FROM COUNT AT_ONCE
import { Agent, createServer, request } from "node:http";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { addressOf } from "../../test/agent/proxy/lab.ts";
import { sendMalice, type Turns } from "../../test/agent/proxy/malice-lab.ts";
import { TCP_PORTS } from "./peers.ts";

/** What one guest does to be a nuisance. */
export type Abuse =
  | "nothing"
  | "nothing again"
  | "half-open"
  | "poll, one"
  | "poll, kept"
  | "poll, new"
  | "hang up";

const PROXY = { host: "127.0.0.1", port: TCP_PORTS.ours };
const BODY = "x".repeat(1_000);
const BAD_GUEST = 3;
const NOVA_BUSY_MS = 0.4;
const POLLERS = 64;
const HALF_OPEN = 1_100;
const ASK_EVERY_MS = 10;
const MANY_GUESTS = Array.from({ length: 40 }, (_, n) => 10 + n);

const [, , part = "", argument = "", second = "", third = ""] = process.argv;
if (part === "nova") serveNova();
else if (part === "abuse") abuse(argument as Abuse);
else if (part === "ask") askWhenTold();
else if (part === "load")
  process.send?.(await askSteadily(Number(argument), Number(second), Number(third), MANY_GUESTS));
else if (part === "malice")
  await beMalicious({ from: Number(argument), count: Number(second) }, Number(third));

/** A nova that costs CPU for each answer. */
function serveNova(): void {
  createServer((_req, res) => {
    const until = performance.now() + NOVA_BUSY_MS;
    while (performance.now() < until);
    res.end(BODY);
  }).listen({ host: "127.0.0.1", port: TCP_PORTS.nova, backlog: 4_096 });
}

function abuse(kind: Abuse): void {
  const localAddress = addressOf(BAD_GUEST);
  let turn = 0;
  if (kind === "half-open") {
    for (let n = 0; n < HALF_OPEN; n++) halfOpen();
  } else if (kind === "hang up") {
    for (let n = 0; n < POLLERS; n++) askAndHangUp();
  } else if (kind.startsWith("poll")) {
    const agent = kind === "poll, new" ? false : new Agent({ keepAlive: true });
    for (let n = 0; n < (kind === "poll, one" ? 1 : POLLERS); n++) poll(agent);
  }

  function halfOpen(): void {
    const socket = connect({ ...PROXY, localAddress });
    socket.write("GET /x HTTP/1.1\r\nHost: x\r\nX-A: ");
    socket.on("error", () => undefined);
  }

  function askAndHangUp(): void {
    const socket = connect({ ...PROXY, localAddress }, () => {
      socket.write(`GET /x?${turn++} HTTP/1.1\r\nHost: x\r\n\r\n`, () => socket.resetAndDestroy());
    });
    socket.on("error", () => undefined).on("close", askAndHangUp);
  }

  function poll(agent: Agent | false): void {
    request({ ...PROXY, localAddress, path: `/x?${turn++}`, agent }, (response) => {
      response.resume().on("close", () => poll(agent));
    })
      .on("error", () => setTimeout(poll, 10, agent))
      .end();
  }
}

async function beMalicious(turns: Turns, atOnce: number): Promise<void> {
  await sendMalice(turns, { tcpPort: PROXY.port, guest: BAD_GUEST, atOnce });
  process.disconnect();
}

/** One neighbour for all rounds, so that its own code is compiled before the first. Told for how many ms to ask. */
function askWhenTold(): void {
  process.on("message", async (forMs: number) => {
    process.send?.(await askSteadily(forMs, PROXY.port, 1_000 / ASK_EVERY_MS, [7]));
  });
}

/** Guests that ask steadily, whatever the answers take, on a new connection each time: the ms of each answer. */
async function askSteadily(
  forMs: number,
  port: number,
  requestsPerSecond: number,
  guests: readonly number[],
): Promise<readonly number[]> {
  const asked: Promise<number>[] = [];
  const began = performance.now();
  for (let now = began; now < began + forMs; now = performance.now()) {
    const due = ((now - began) / 1_000) * requestsPerSecond;
    while (asked.length < due) {
      const guest = guests[asked.length % guests.length];
      asked.push(ask(port, addressOf(guest as number), `/good?${asked.length}`));
    }
    await sleep(1);
  }
  return Promise.all(asked);
}

/** Over a bare socket, since what node:http does around each request is as much again as what is measured. */
function ask(port: number, localAddress: string, path: string): Promise<number> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, localAddress });
    let answer = "";
    socket
      .setEncoding("latin1")
      .on("data", (text: string) => {
        answer += text;
      })
      .on("end", () => {
        if (answer.startsWith("HTTP/1.1 200 ")) resolve(performance.now() - began);
        else reject(new Error(`a guest got "${answer.slice(0, 40)}"`));
      })
      .on("error", reject)
      .write(`GET ${path} HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n`);
  });
}
