import { hostname } from "node:os";
import { type BoundPort, bindPort, listBoundPorts, unbindPort } from "../../nsdb/port-binding.ts";
import { openNsdb } from "../open-nsdb.ts";
import type { GlobalOptions, PortBindOptions } from "../options.ts";
import { aligned } from "../port-row.ts";

/** `mn-metadata port bind`: says what it wrote, or that all was so already. */
export async function portBindCommand(globals: GlobalOptions, options: PortBindOptions): Promise<void> {
  const { store, hostId } = await openNsdb({ ...globals, createHostId: options.createHostId === true });
  try {
    const isNew = await bindPort(
      store,
      {
        portId: options.port,
        hostId,
        hostName: hostname(),
        interfaceName: options.interface,
        instanceId: options.instance,
        projectId: options.project,
        macAddress: options.mac,
        fixedIps: options.fixedIp,
        networkId: options.network,
      },
      { force: options.force === true },
    );
    const bound = `port ${options.port} ${isNew ? "is bound" : "was bound already"} to interface ${options.interface} of host ${hostId}`;
    process.stdout.write(`${bound}\n`);
  } finally {
    await store.close();
  }
}

/** `mn-metadata port unbind`; a port that is not bound is no failure, so that a hook may run twice. */
export async function portUnbindCommand(
  globals: GlobalOptions,
  portId: string,
  force: boolean,
): Promise<void> {
  const { store, hostId } = await openNsdb(globals);
  try {
    const wasBound = await unbindPort(store, { portId, hostId }, { force });
    process.stdout.write(
      `port ${portId} ${wasBound ? "is no longer bound" : "was not bound"} to host ${hostId}\n`,
    );
  } finally {
    await store.close();
  }
}

/** `mn-metadata port list`: what the NSDB says, whether or not an agent serves it. */
export async function portListCommand(globals: GlobalOptions, asJson: boolean): Promise<void> {
  const { store, hostId } = await openNsdb(globals);
  try {
    const ports = await listBoundPorts(store, hostId);
    process.stdout.write(asJson ? `${JSON.stringify(ports, null, 2)}\n` : boundTable(ports, hostId));
  } finally {
    await store.close();
  }
}

function boundTable(ports: readonly BoundPort[], hostId: string): string {
  if (ports.length === 0) return `no port is bound to host ${hostId}\n`;
  const head = ["INTERFACE", "FIXED ADDRESSES", "MAC", "INSTANCE", "PROJECT", "PORT", "PROBLEM"];
  const lines = ports.map((port) => [
    port.interfaceName,
    port.fixedIps.join(","),
    port.macAddress,
    port.instanceId,
    port.projectId,
    port.portId,
    port.problem ?? "",
  ]);
  return aligned([head, ...lines]);
}
