import { describe, expect, test } from "vitest";
import { activity, idleSentence, type LinkState } from "../../../src/agent/ports/active.ts";
import type { ComputePort } from "../../../src/agent/topology/model.ts";

const A = "11111111-1111-4111-8111-111111111111";
const B = "22222222-2222-4222-8222-222222222222";

function port(
  portId: string,
  interfaceName: string,
  fixedAddresses: readonly string[] = ["10.0.0.3"],
): ComputePort {
  return { portId, interfaceName, mac: "fa:16:3e:00:00:01", fixedAddresses, instanceId: "i", projectId: "p" };
}

function links(table: Record<string, LinkState>): (name: string) => LinkState | undefined {
  return (name) => table[name];
}

const nobodyHolds = () => false;

describe("`activity()`", () => {
  test("joins a binding with the interface that is up, and takes its ifindex", () => {
    const { active, idle } = activity(
      [port(A, "tapA")],
      links({ tapA: { ifindex: 7, up: true } }),
      nobodyHolds,
    );
    expect(active).toEqual([{ port: port(A, "tapA"), ifindex: 7 }]);
    expect(idle.size).toBe(0);
  });

  test("leaves out a port whose interface is missing, down, or that has no address, and says why", () => {
    const ports = [port(A, "gone"), port(B, "down"), port("c", "bare", [])];
    const { active, idle } = activity(
      ports,
      links({ down: { ifindex: 1, up: false }, bare: { ifindex: 2, up: true } }),
      nobodyHolds,
    );
    expect(active).toEqual([]);
    expect([...idle].map(([portId, { kind }]) => [portId, kind])).toEqual([
      [A, "no-interface"],
      [B, "interface-down"],
      ["c", "no-fixed-address"],
    ]);
    expect(idleSentence(port(B, "down"), { kind: "interface-down" })).toContain("ip link set down up");
  });

  test.each([[[port(A, "tap"), port(B, "tap")]], [[port(B, "tap"), port(A, "tap")]]])(
    "refuses the newcomer of two ports that claim one interface, in whatever order they come",
    (ports) => {
      const held = (portId: string) => portId === B;
      const { active, idle } = activity(ports, links({ tap: { ifindex: 3, up: true } }), held);
      expect(active.map((winner) => winner.port.portId)).toEqual([B]);
      expect(idle.get(A)).toEqual({ kind: "interface-taken", byPortId: B });
    },
  );

  test("decides alike on every run where neither holds the interface", () => {
    const link = links({ tap: { ifindex: 3, up: true } });
    const one = activity([port(A, "tap"), port(B, "tap")], link, nobodyHolds);
    const other = activity([port(B, "tap"), port(A, "tap")], link, nobodyHolds);
    const winners = ({ active }: typeof one) => active.map((winner) => winner.port.portId);
    expect(winners(one)).toEqual(winners(other));
  });
});
