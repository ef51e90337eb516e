import { once } from "node:events";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { askAgent, controlSocketPath, serveControl } from "../../src/agent/control.ts";

describe("the control socket", () => {
  let folder: string;
  let path: string;
  let stop: (() => Promise<void>) | undefined;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "mn-control-"));
    path = controlSocketPath(folder);
  });

  afterEach(async () => {
    await stop?.();
    stop = undefined;
    rmSync(folder, { recursive: true, force: true });
  });

  test("is one for each network namespace", () => {
    expect(path).toMatch(/\/agent-\d+\.sock$/);
  });

  test("answers only to its owner", async () => {
    stop = await serveControl(path, {});
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("gives the handler its query and the caller its answer", async () => {
    stop = await serveControl(path, { "/explain": (query) => ({ what: query.get("what") }) });
    expect(await askAgent(path, "/explain?what=tap%201")).toEqual({ what: "tap 1" });
  });

  test("passes on a handler's own words, and knows no other question", async () => {
    stop = await serveControl(path, {
      "/explain": () => {
        throw new Error("Cannot find it");
      },
    });
    await expect(askAgent(path, "/explain")).rejects.toMatchObject({
      code: "failed",
      message: "Cannot find it",
    });
    await expect(askAgent(path, "/constructor")).rejects.toMatchObject({ code: "failed" });
  });

  test("refuses what is no path, and goes on", async () => {
    stop = await serveControl(path, { "/alive": () => true });
    for (const question of ["//", "///", "http://"])
      await expect(askAgent(path, question)).rejects.toMatchObject({
        code: "failed",
        message: expect.stringContaining("no question"),
      });
    expect(await askAgent(path, "/alive")).toBe(true);
  });

  test("says that no agent runs where nobody listens, also beside a dead socket's file", async () => {
    await expect(askAgent(path, "/status")).rejects.toMatchObject({ code: "not-running" });
    writeFileSync(path, "");
    await expect(askAgent(path, "/status")).rejects.toMatchObject({ code: "not-running" });
  });

  test("refuses a second agent, and takes over the file of a dead one", async () => {
    writeFileSync(path, "");
    stop = await serveControl(path, { "/alive": () => true });
    await expect(serveControl(path, {})).rejects.toMatchObject({ code: "already-running" });
    expect(await askAgent(path, "/alive")).toBe(true);
  });

  test("waits for as long as the agent works on the answer, beyond the silence it allows", async () => {
    stop = await serveControl(path, {
      "/explain": () => new Promise((resolve) => setTimeout(() => resolve("done"), 3_500)),
    });
    expect(await askAgent(path, "/explain", 3_000)).toBe("done");
  });

  test("tells an agent that hangs from one that does not run", async () => {
    const hung = createServer((socket) => socket.resume()).listen(path);
    await once(hung, "listening");
    await expect(askAgent(path, "/status", 100)).rejects.toMatchObject({
      code: "failed",
      message: expect.stringMatching(/it runs but gave no sign of life for 0.1 s: .* restart it/),
    });
    await new Promise((resolve) => hung.close(resolve));
  });
});
