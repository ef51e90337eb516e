import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

const EXAMPLES = resolve("docs/examples");
const PORT = "25c17bbb-f3d7-4d4a-8239-b0695772d138";
const INSTANCE = "7d0d2b1c-3f0e-4c8e-9a51-0c6f6a1f0001";
const PROJECT = "9cecaa10ace343d5812ac5291247dd3d";
const MAC = "fa:16:3e:00:00:01";
const BOUND =
  `port bind --port ${PORT} --interface tap25c17bbb-f3 --instance ${INSTANCE} ` +
  `--project ${PROJECT} --fixed-ip 10.0.0.5 --fixed-ip fd00::5 --mac ${MAC}`;
const UNBOUND = `port unbind --port ${PORT}`;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "mn-examples-"));
  mkdirSync(join(folder, "bin"));
  mkdirSync(join(folder, "ports.d"));
  stub(
    "mn-metadata",
    `echo "$*" >>"${folder}/calls"; exit "$(cat "${folder}/status" 2>/dev/null || echo 0)"`,
  );
  stub("logger", `echo "$*" >>"${folder}/log"`);
});
afterEach(() => rmSync(folder, { recursive: true }));

function stub(name: string, script: string): void {
  const path = join(folder, "bin", name);
  writeFileSync(path, `#!/bin/bash\n${script}\n`);
  chmodSync(path, 0o755);
}

function read(name: string): string[] {
  try {
    return readFileSync(join(folder, name), "utf8").trim().split("\n");
  } catch {
    return [];
  }
}

function run(example: string, args: readonly string[], input = "") {
  const { status, stderr } = spawnSync("bash", [join(EXAMPLES, example), ...args], {
    input,
    encoding: "utf8",
    env: {
      PATH: `${folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      MN_METADATA_PORTS_D: join(folder, "ports.d"),
      MN_METADATA_OVS_STATE: join(folder, "state/bound"),
    },
  });
  return { status, stderr };
}

function domain(mac: string, device: string): string {
  return `<domain><devices><interface type='ethernet'><mac address='${mac}'/><target dev='${device}'/>
    </interface><interface type='user'><mac address='52:54:00:00:00:01'/></interface></devices></domain>`;
}

function portFile(fields: Record<string, string> = {}): void {
  const all = { mac: MAC.toUpperCase(), port: PORT, instance: INSTANCE, project: PROJECT, ...fields };
  const lines = Object.entries(all).map(([key, value]) => `${key}=${value}`);
  writeFileSync(
    join(folder, "ports.d/vm.port"),
    [...lines, "fixed_ip=10.0.0.5", "fixed_ip=fd00::5", ""].join("\n"),
  );
}

function openVSwitch(...interfaces: readonly [name: string, ids: Record<string, string>][]): void {
  const data = interfaces.map(([name, ids]) => [name, ["map", Object.entries(ids)]]);
  stub("ovs-vsctl", `cat <<'JSON'\n${JSON.stringify({ headings: ["name", "external_ids"], data })}\nJSON`);
}

function neutron(): void {
  const fixedIps = [{ ip_address: "10.0.0.5" }, { ip_address: "fd00::5" }];
  const port = JSON.stringify({ project_id: PROJECT, fixed_ips: fixedIps });
  stub("openstack", `[[ "$*" == "port show ${PORT} -f json" ]] && echo '${port}'`);
}

const GUEST = { "iface-id": PORT, "attached-mac": MAC, "vm-uuid": INSTANCE, "iface-status": "active" };

test("every script here parses, and shellcheck has nothing to say", () => {
  const scripts = readdirSync(EXAMPLES).map((name) => join(EXAMPLES, name));
  expect(scripts.length).toBeGreaterThanOrEqual(2);
  for (const script of [...scripts, resolve("tools/metadata/remove_dhcp_ports.sh")]) {
    execFileSync("bash", ["-n", script]);
    expect(spawnSync("shellcheck", [script], { encoding: "utf8" })).toMatchObject({ status: 0, stdout: "" });
  }
});

test("the libvirt hook binds a starting guest's port and unbinds it at release", () => {
  portFile();
  for (const operation of ["prepare", "start", "started", "stopped", "release"]) {
    const ended = run("libvirt-hook-qemu", ["vm", operation, "begin", "-"], domain(MAC, "tap25c17bbb-f3"));
    expect(ended).toEqual({ status: 0, stderr: "" });
  }
  expect(read("calls")).toEqual([BOUND, UNBOUND]);
});

test("the libvirt hook passes no unvalidated value on, and never stops a guest", () => {
  const bad = [
    { port: "$(reboot)" },
    { port: `${PORT} --force` },
    { instance: "--help" },
    { project: "../x" },
  ];
  for (const fields of bad) {
    portFile(fields);
    expect(run("libvirt-hook-qemu", ["vm", "started"], domain(MAC, "tap0")).status).toBe(0);
  }
  expect(read("log")).toHaveLength(bad.length);
  portFile();
  expect(run("libvirt-hook-qemu", ["vm", "started"], domain(MAC, "--interface")).status).toBe(0);
  expect(run("libvirt-hook-qemu", ["vm", "started"], domain(MAC, "tap0;reboot")).status).toBe(0);
  expect(run("libvirt-hook-qemu", ["vm", "started"], "not xml").status).toBe(0);
  expect(read("calls")).toEqual([]);
  writeFileSync(join(folder, "status"), "1");
  expect(run("libvirt-hook-qemu", ["vm", "started"], domain(MAC, "tap0")).status).toBe(0);
  expect(read("log").at(-1)).toContain(`cannot bind port ${PORT} to tap0`);
});

test("the OVS script binds what is new once, and unbinds what is gone", () => {
  neutron();
  openVSwitch(["br-int", {}], ["tap25c17bbb-f3", GUEST]);
  expect(run("ovs-external-ids", [])).toEqual({ status: 0, stderr: "" });
  expect(run("ovs-external-ids", [])).toEqual({ status: 0, stderr: "" });
  expect(read("calls")).toEqual([BOUND]);
  openVSwitch(["br-int", {}]);
  expect(run("ovs-external-ids", [])).toEqual({ status: 0, stderr: "" });
  expect(read("calls")).toEqual([BOUND, UNBOUND]);
});

test("the OVS script tries again what failed, and refuses bad external_ids", () => {
  neutron();
  openVSwitch(["tap25c17bbb-f3", GUEST], ["tap1", { ...GUEST, "iface-id": "--force" }]);
  writeFileSync(join(folder, "status"), "1");
  const failed = run("ovs-external-ids", []);
  expect(failed.status).toBe(1);
  expect(failed.stderr).toContain(`cannot bind port ${PORT}`);
  expect(failed.stderr).toContain('cannot use the external_ids of "tap1"');
  writeFileSync(join(folder, "status"), "0");
  run("ovs-external-ids", []);
  expect(read("calls")).toEqual([BOUND, BOUND]);
  stub("ovs-vsctl", "exit 1");
  expect(run("ovs-external-ids", [])).toMatchObject({ status: 1 });
  expect(read("calls"), "Open vSwitch being down unbinds nothing").toHaveLength(2);
});
