import { expect, it } from "vitest";
import { ask, startLab, until } from "./lab.ts";
import { maliceOf } from "./malformed.ts";
import { StrictNova, sendMalice } from "./malice-lab.ts";
import { readStrictly } from "./strict-http.ts";

it("lets nothing through that a strict parser refuses, and is as it was afterwards", async () => {
  const nova = await StrictNova.listen(1);
  await using lab = await startLab();
  lab.proxy.reconfigure({ ...lab.settings, novaUrls: [nova.url] });
  const turns = { from: 0, count: 4_000 };
  nova.expect(turns);
  await sendMalice(turns, { tcpPort: lab.tcpPort, guest: 1, atOnce: 200 });
  expect(nova.faults).toEqual([]);
  expect(nova.received).toBeGreaterThan(100);
  await until(() => lab.proxy.status().connections === 0);
  expect(lab.proxy.status()).toMatchObject({ inFlight: 0, held: 0 });
  expect((await ask(lab, 2, "/good")).text).toBe("ok");
  expect(lab.log.lines.filter(({ level }) => level === "error")).toEqual([]);
  nova.close();
});

it("is tried with what is mostly malformed, the same each time", () => {
  const streams = Array.from({ length: 4_000 }, (_, turn) => maliceOf(turn).pieces.join(""));
  const valid = streams.filter((stream) => readStrictly(stream).rest === "");
  expect(valid.length / streams.length).toBeLessThan(0.2);
  expect(streams[77]).toBe(maliceOf(77).pieces.join(""));
  expect(new Set(streams).size).toBeGreaterThan(3_500);
});
