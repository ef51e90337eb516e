import { isIP } from "node:net";
import { NsdbError } from "./error.ts";
import { decodeHost, decodeNeutronPort, decodePort } from "./models.ts";
import { modelPath } from "./paths.ts";
import { type BindingObjects, type PortBinding, planBind, planUnbind, within } from "./port-binding-plan.ts";
import type { Store, WriteOp } from "./store.ts";
import { parseUuid } from "./uuid.ts";

/** How insistent to be. */
export interface BindOptions {
  /** Also where a MidoNet cluster owns the NSDB. */
  readonly force?: boolean;
}

/** One line of `port list`. */
export interface BoundPort {
  readonly portId: string;
  readonly interfaceName: string;
  readonly instanceId: string;
  readonly projectId: string;
  readonly macAddress: string;
  readonly fixedIps: readonly string[];
  /** Why the agent cannot serve it, naming the znode. */
  readonly problem: string | undefined;
}

const RETRY_FOR_MS = 10_000;
const LONGEST_RETRY_PAUSE_MS = 20;

/**
 * Writes a binding as MidoNet would: Port (host, interface), NeutronPort (whose it is) and Host (its back-reference)
 * in one transaction; what else these objects hold stays. Bound elsewhere before, it is moved.
 *
 * @returns False where all was so already.
 * @throws {NsdbError} `usage` for a bad value, `denied` where MidoNet owns the NSDB, `malformed` for an unreadable object.
 */
export async function bindPort(
  store: Store,
  binding: PortBinding,
  options: BindOptions = {},
): Promise<boolean> {
  const checked = checkBinding(binding);
  if (options.force !== true) await refuseMidonet(store, `bind port "${checked.portId}"`);
  return writeUntilStable(store, async () =>
    planBind(checked, await readObjects(store, checked.portId, checked.hostId)),
  );
}

/**
 * Undoes {@link bindPort}: objects that hold nothing but what it writes are deleted, others only lose their binding.
 * A port that is bound elsewhere by now stays there.
 *
 * @returns False where it was not bound here.
 * @throws {NsdbError} As {@link bindPort}.
 */
export async function unbindPort(
  store: Store,
  port: { readonly portId: string; readonly hostId: string },
  options: BindOptions = {},
): Promise<boolean> {
  const portId = uuid("port", port.portId);
  const hostId = uuid("host id", port.hostId);
  const isForced = options.force === true;
  if (!isForced) await refuseMidonet(store, `unbind port "${portId}"`);
  return writeUntilStable(store, async () => {
    const objects = await readObjects(store, portId, hostId);
    return planUnbind({ portId, hostId, keepObjects: isForced }, objects);
  });
}

/** The ports that the NSDB binds to a host, in the order of their ids. @throws {NsdbError} */
export async function listBoundPorts(store: Store, hostId: string): Promise<BoundPort[]> {
  const path = modelPath("Host", hostId);
  const host = await store.get(path);
  if (host === undefined) return [];
  const { portIds } = within(path, () => decodeHost(host.data));
  const rows = await Promise.all([...new Set(portIds)].map((portId) => boundPort(store, portId, hostId)));
  return rows.sort((a, b) => (a.portId < b.portId ? -1 : 1));
}

/**
 * What in the NSDB only a MidoNet cluster or agent makes, or undefined where there is nothing of the kind.
 *
 * @source MidoNet ZookeeperObjectMapper.scala, MidonetBackendService.scala, ClusterNode.scala
 */
export async function midonetEvidence(store: Store): Promise<string | undefined> {
  const ours = new Set(["models", "Host", "Port", "NeutronPort"]);
  for (const path of ["/zoom/0", "/zoom/0/models"]) {
    const name = (await store.children(path))?.find((child) => !ours.has(child));
    if (name !== undefined) return `${path}/${name}`;
  }
  const schema = "/config/schemas/cluster";
  return (await store.get(schema)) === undefined ? undefined : schema;
}

async function refuseMidonet(store: Store, action: string): Promise<void> {
  const evidence = await midonetEvidence(store);
  if (evidence === undefined) return;
  throw new NsdbError(
    "denied",
    `Cannot ${action} in ${store.url}: "${evidence}" shows that a MidoNet cluster owns this NSDB; use "mm-ctl --bind-port", or --force to write beside it`,
    { path: evidence },
  );
}

/** Plans and writes, and plans again from what is there when somebody else was faster. */
async function writeUntilStable(store: Store, plan: () => Promise<readonly WriteOp[]>): Promise<boolean> {
  const deadline = performance.now() + RETRY_FOR_MS;
  for (;;) {
    const ops = await plan();
    if (ops.every((op) => op.kind === "check")) return false;
    try {
      await store.write(ops);
      return true;
    } catch (error) {
      const isRace =
        error instanceof NsdbError && ["bad-version", "node-exists", "no-node"].includes(error.code);
      if (!isRace || performance.now() > deadline) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, Math.random() * LONGEST_RETRY_PAUSE_MS));
  }
}

async function readObjects(store: Store, portId: string, hostId: string): Promise<BindingObjects> {
  const [host, port, neutronPort] = await Promise.all([
    store.get(modelPath("Host", hostId)),
    store.get(modelPath("Port", portId)),
    store.get(modelPath("NeutronPort", portId)),
  ]);
  const boundTo =
    port === undefined ? undefined : within(modelPath("Port", portId), () => decodePort(port.data)).hostId;
  const otherHostId = boundTo === hostId ? undefined : boundTo;
  const otherHost = otherHostId === undefined ? undefined : await store.get(modelPath("Host", otherHostId));
  return { host, port, neutronPort, otherHostId, otherHost };
}

async function boundPort(store: Store, portId: string, hostId: string): Promise<BoundPort> {
  const problems: string[] = [];
  const read = async <T>(path: string, decode: (data: Buffer) => T): Promise<T | undefined> => {
    const znode = await store.get(path);
    if (znode === undefined) problems.push(`znode "${path}" is missing`);
    try {
      return znode === undefined ? undefined : within(path, () => decode(znode.data));
    } catch (error) {
      if (!(error instanceof NsdbError)) throw error;
      problems.push(error.message);
      return undefined;
    }
  };
  const path = modelPath("Port", portId);
  const port = await read(path, decodePort);
  const neutronPort = await read(modelPath("NeutronPort", portId), decodeNeutronPort);
  if (port !== undefined && port.hostId !== hostId)
    problems.push(`znode "${path}" names another host, or none`);
  return {
    portId,
    interfaceName: port?.interfaceName ?? "",
    instanceId: neutronPort?.deviceId ?? "",
    projectId: neutronPort?.tenantId ?? "",
    macAddress: neutronPort?.macAddress ?? "",
    fixedIps: neutronPort?.fixedIps ?? [],
    problem: problems.length === 0 ? undefined : problems.join("; "),
  };
}

/** The agent's own are named here again: this room knows nothing of the kernel. */
const HOSTS_OWN: ReadonlySet<string> = new Set(["lo", "mn-metadata", "mn-metadata-p"]);

function checkBinding(binding: PortBinding): PortBinding {
  const { interfaceName, instanceId, projectId, fixedIps, networkId } = binding;
  if (!/^[A-Za-z0-9._:@+=-]{1,15}$/.test(interfaceName) || interfaceName === "." || interfaceName === "..") {
    throw bad(
      "interface",
      interfaceName,
      "a Linux interface name: 1 to 15 letters, digits or any of . _ - : @ + =",
    );
  }
  if (HOSTS_OWN.has(interfaceName))
    throw bad("interface", interfaceName, "the tap of a guest; this one is the host's own");
  for (const [what, value] of Object.entries({ instance: instanceId, project: projectId })) {
    if (!/^[\x21-\x7e]+$/.test(value)) throw bad(what, value, "an id without blanks");
  }
  const macAddress = binding.macAddress.toLowerCase();
  if (!/^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/.test(macAddress)) {
    throw bad("MAC", binding.macAddress, 'six pairs of hex digits with ":" between');
  }
  if (fixedIps.length === 0)
    throw new NsdbError("usage", "Cannot bind a port without a fixed IP: give at least one");
  for (const address of fixedIps) {
    if (isIP(address) === 0 || address.includes("%"))
      throw bad("fixed IP", address, "an IPv4 or IPv6 address");
  }
  return {
    ...binding,
    macAddress,
    portId: uuid("port", binding.portId),
    hostId: uuid("host id", binding.hostId),
    networkId: networkId === undefined ? undefined : uuid("network", networkId),
    fixedIps: [...new Set(fixedIps.map((address) => address.toLowerCase()))],
  };
}

function uuid(what: string, text: string): string {
  const parsed = parseUuid(text);
  if (parsed === undefined) throw bad(what, text, "a UUID");
  return parsed;
}

function bad(what: string, value: string, expected: string): NsdbError {
  return new NsdbError("usage", `Cannot use ${JSON.stringify(value)} as ${what}: it should be ${expected}`);
}
