import { afterEach, describe, expect, test } from "vitest";
import { LinkTable } from "../../src/datapath/links.ts";
import { ifindexOf, must, run, until } from "../support/namespace.ts";

let table: LinkTable | undefined;

afterEach(async () => {
  await table?.close();
  table = undefined;
  for (const link of JSON.parse(await must("ip", "-j", "link", "show", "type", "veth")) as {
    ifname: string;
  }[]) {
    await run("ip", "link", "del", link.ifname);
  }
});

function plug(name: string): Promise<string> {
  return must("ip", "link", "add", "name", name, "type", "veth", "peer", "name", `${name}-p`);
}

describe("the link table", () => {
  test("knows what is there when it starts, and sees plug, up, down, rename and unplug", async () => {
    await plug("lt0");
    const links = await LinkTable.watch();
    table = links;
    let changes = 0;
    links.onChange(() => {
      changes += 1;
    });
    expect(links.isComplete).toBe(true);
    expect(links.get("lt0")).toMatchObject({ ifindex: await ifindexOf("lt0"), up: false, linkKind: "veth" });
    await must("ip", "link", "set", "lt0", "up");
    await until("up is seen", () => links.get("lt0")?.up === true);
    await must("ip", "link", "set", "lt0", "down");
    await until("down is seen", () => links.get("lt0")?.up === false);
    await must("ip", "link", "set", "lt0", "name", "lt1");
    await until(
      "the new name is seen",
      () => links.get("lt1") !== undefined && links.get("lt0") === undefined,
    );
    await must("ip", "link", "del", "lt1");
    await until("the end is seen", () => links.get("lt1") === undefined && links.get("lt0-p") === undefined);
    expect(changes).toBeGreaterThan(3);
  });

  test("sees another interface under the name of one that went", async () => {
    await plug("lt0");
    const links = await LinkTable.watch();
    table = links;
    const before = links.get("lt0")?.ifindex;
    await must("ip", "link", "del", "lt0");
    await plug("lt0");
    const after = await ifindexOf("lt0");
    expect(after).not.toBe(before);
    await until("the new index is seen", () => links.get("lt0")?.ifindex === after);
  });

  test("goes on after its child was killed, and has missed nothing", async () => {
    const links = await LinkTable.watch();
    table = links;
    const { stdout } = await run("pgrep", "-P", String(process.pid), "-x", "ip");
    const children = stdout.trim().split("\n").map(Number);
    expect(children.length).toBe(1);
    for (const pid of children) process.kill(pid, "SIGKILL");
    await plug("lt0");
    await until("the link is seen", () => links.get("lt0") !== undefined);
    await plug("lt1");
    await until("events flow again", () => links.get("lt1") !== undefined);
  });

  test("is right after a storm of 20,000 events while nobody listened", async () => {
    await plug("lt0");
    await plug("lt1");
    const links = await LinkTable.watch();
    table = links;
    const storm =
      "for i in $(seq 1 5000); do echo link set lt0 up; echo link set lt0 down; done | ip -batch -";
    const began = performance.now();
    const raging = must("sh", "-c", storm);
    while (performance.now() - began < 1_000) Math.sqrt(performance.now());
    await raging;
    await must("ip", "link", "del", "lt1");
    await must("ip", "link", "set", "lt0", "up");
    await until(
      "the last state is seen",
      () => links.get("lt0")?.up === true && links.get("lt1") === undefined,
    );
    await plug("lt2");
    await until("it still listens", () => links.get("lt2") !== undefined);
  });
});
