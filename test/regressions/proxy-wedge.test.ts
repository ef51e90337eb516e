import { expect, it } from "vitest";
import { ask, rawExchange, startLab } from "../agent/proxy/lab.ts";

/**
 * Each request that undici itself refuses marks a connection of its Pool as busy for good: after as many as it
 * has connections, nothing is answered any more. So none may get there.
 */
it("the proxy answers on after more invalid requests than it has connections to nova", async () => {
  await using lab = await startLab();
  const heads = [
    "OPTIONS * HTTP/1.1",
    "GET /a b HTTP/1.1",
    "GET /\x7f HTTP/1.1",
    "CONNECT a:1 HTTP/1.1",
    "GET / HTTP/1.1\r\nExpect: 200-maybe",
    "GET / HTTP/1.1\r\nExpect: 100-continue",
    "GET / HTTP/1.1\r\nTransfer-Encoding: gzip",
    "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket",
    "GET / HTTP/1.1\r\nConnection: a b",
    "GET / HTTP/1.1\r\nKeep-Alive: 1",
    "GET / HTTP/1.1\r\nX-A: \x01",
    "POST / HTTP/1.1\r\nContent-Length: 1, 1",
  ];
  for (let i = 0; i < 300; i++) {
    await rawExchange(lab, 1, `${heads[i % heads.length]}\r\nHost: x\r\n\r\n`);
  }
  for (let i = 0; i < 20; i++)
    expect((await ask(lab, 1, `/latest/meta-data/hostname?${i}`)).text).toBe("guest-1");
});
