import type { Store, WriteOp } from "../../src/nsdb/store.ts";

/** A guest's port as MidoNet and Neutron would have written it. */
export interface MidonetPort {
  readonly portId: string;
  readonly interfaceName: string;
  readonly fixedAddresses: readonly string[];
  readonly mac: string;
  readonly instanceId: string;
  readonly projectId: string;
}

/**
 * Writes what MidoNet writes, byte for byte, with a printer of its own: a mistake in ours would otherwise be
 * its own proof.
 */
export class MidonetWriter {
  readonly #store: Store;
  readonly #hostId: string;
  readonly #portIds: string[] = [];

  constructor(store: Store, hostId: string) {
    this.#store = store;
    this.#hostId = hostId;
  }

  /** The three keys, in the template that setup guides use. */
  async setKeys(keys: { enabled: boolean; novaUrl: string; secret: string }): Promise<void> {
    const text = `{
    "agent" : {
        "openstack" : {
            "metadata" : {
                "enabled" : ${keys.enabled},
                "nova_metadata_url" : "${keys.novaUrl}",
                "shared_secret" : "${keys.secret}"
            }
        }
    }
}
`;
    await this.put("/config/templates/default", text);
  }

  async bind(port: MidonetPort): Promise<void> {
    await this.put(`/zoom/0/models/NeutronPort/${port.portId}`, neutronPortText(port));
    await this.put(`/zoom/0/models/Port/${port.portId}`, portText(port, this.#hostId));
    if (!this.#portIds.includes(port.portId)) this.#portIds.push(port.portId);
    await this.writeHost();
  }

  /** Many new ports at once. */
  async bindAll(ports: readonly MidonetPort[]): Promise<void> {
    await this.createAll(ports);
    await this.list(ports);
  }

  /** Their objects; nothing is bound before the host lists them. */
  async createAll(ports: readonly MidonetPort[]): Promise<void> {
    for (let at = 0; at < ports.length; at += 100) {
      const ops = ports.slice(at, at + 100).flatMap((port): WriteOp[] => [
        {
          kind: "create",
          path: `/zoom/0/models/NeutronPort/${port.portId}`,
          data: Buffer.from(neutronPortText(port)),
        },
        {
          kind: "create",
          path: `/zoom/0/models/Port/${port.portId}`,
          data: Buffer.from(portText(port, this.#hostId)),
        },
      ]);
      await this.#store.write(ops);
    }
  }

  async list(ports: readonly MidonetPort[]): Promise<void> {
    this.#portIds.push(...ports.map(({ portId }) => portId));
    await this.writeHost();
  }

  async unbind(portId: string): Promise<void> {
    this.#portIds.splice(this.#portIds.indexOf(portId), 1);
    await this.writeHost();
    await this.put(
      `/zoom/0/models/Port/${portId}`,
      `${idText("id", portId)}tunnel_key: 12\nadmin_state_up: true\n`,
    );
  }

  async writeHost(): Promise<void> {
    await this.put(`/zoom/0/models/Host/${this.#hostId}`, hostText(this.#hostId, this.#portIds));
  }

  async put(path: string, text: string): Promise<void> {
    const data = Buffer.from(text);
    const there = await this.#store.get(path);
    if (there !== undefined) {
      await this.#store.write([{ kind: "set", path, data, version: there.version }]);
      return;
    }
    const parents = path.split("/").slice(1, -1);
    for (let depth = 1; depth <= parents.length; depth++) {
      const parent = `/${parents.slice(0, depth).join("/")}`;
      if ((await this.#store.get(parent)) === undefined) {
        await this.#store.write([{ kind: "create", path: parent, data: Buffer.alloc(0) }]);
      }
    }
    await this.#store.write([{ kind: "create", path, data }]);
  }
}

/** @source MidoNet neutron.proto, printed by protobuf's TextFormat */
export function neutronPortText(port: MidonetPort): string {
  const fixedIps = port.fixedAddresses.map(
    (address) =>
      `fixed_ips {\n  ip_address {\n    version: ${address.includes(":") ? "V6" : "V4"}\n    address: "${address}"\n  }\n}\n`,
  );
  return `${idText("id", port.portId)}tenant_id: "${port.projectId}"
mac_address: "${port.mac}"
admin_state_up: true
${fixedIps.join("")}device_owner: COMPUTE
device_id: "${port.instanceId}"
status: "ACTIVE"
host_id: "compute-1"
`;
}

/** @source MidoNet topology.proto, the fields that a bound port has */
export function portText(port: MidonetPort, hostId: string): string {
  return `${idText("id", port.portId)}tunnel_key: 12\n${idText("host_id", hostId)}interface_name: "${port.interfaceName}"\nadmin_state_up: true\n`;
}

/** @source MidoNet topology.proto, the fields of a host that an agent reads */
export function hostText(hostId: string, portIds: readonly string[]): string {
  const ports = portIds.map((portId) => idText("port_ids", portId)).join("");
  return `${idText("id", hostId)}name: "compute-1"\n${ports}`;
}

function idText(field: string, uuid: string): string {
  const hex = uuid.replaceAll("-", "");
  return `${field} {\n  msb: ${BigInt(`0x${hex.slice(0, 16)}`)}\n  lsb: ${BigInt(`0x${hex.slice(16)}`)}\n}\n`;
}
