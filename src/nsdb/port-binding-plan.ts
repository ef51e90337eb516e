import { isIP } from "node:net";
import { NsdbError } from "./error.ts";
import { modelPath } from "./paths.ts";
import {
  allValues,
  lastValue,
  messageValue,
  readMessage,
  readUuid,
  scalarValue,
  stringValue,
  uuidValue,
  withField,
} from "./protobuf-fields.ts";
import {
  type ProtobufField,
  type ProtobufValue,
  parseProtobufText,
  printProtobufText,
} from "./protobuf-text.ts";
import type { WriteOp, Znode } from "./store.ts";

/** A guest's port and where it is plugged in: what the agent needs to serve it. */
export interface PortBinding {
  readonly portId: string;
  readonly hostId: string;
  /** For a host that the NSDB does not know yet, and for Neutron's `binding:host_id`. */
  readonly hostName: string;
  readonly interfaceName: string;
  readonly instanceId: string;
  readonly projectId: string;
  readonly macAddress: string;
  readonly fixedIps: readonly string[];
  readonly networkId?: string | undefined;
}

/** The objects that a binding touches, as they are. */
export interface BindingObjects {
  readonly host: Znode | undefined;
  readonly port: Znode | undefined;
  readonly neutronPort: Znode | undefined;
  /** The host that the port is bound to, if not the one in question. */
  readonly otherHostId: string | undefined;
  readonly otherHost: Znode | undefined;
}

type Fields = readonly ProtobufField[];

/** The names of fields by number. @source MidoNet topology.proto, neutron.proto */
const HOST_ORDER =
  "id name flooding_proxy_weight container_weight container_limit enforce_container_limit tunnel_zone_ids port_ids host_group_ids".split(
    " ",
  );
const PORT_ORDER =
  "id network_id router_id inbound_filter_id outbound_filter_id tunnel_key peer_id vif_id host_id interface_name admin_state_up port_group_ids vlan_id port_subnet port_address port_mac route_ids dhcp_id vtep_id service_container_id previous_host_id vni off_ramp_vxlan tunnel_ip qos_policy_id".split(
    " ",
  );
const NEUTRON_PORT_ORDER =
  "id network_id tenant_id name mac_address admin_state_up fixed_ips device_owner device_id status security_groups host_id profile port_security_enabled allowed_address_pairs extra_dhcp_opts qos_policy_id floating_ip_ids gw_router_id".split(
    " ",
  );

/** What {@link planBind} writes into an object: one with nothing else is ours to delete. */
const OUR_PORT_FIELDS = new Set(
  "id network_id host_id interface_name admin_state_up previous_host_id".split(" "),
);
const OUR_NEUTRON_PORT_FIELDS = new Set(
  "id network_id tenant_id mac_address admin_state_up fixed_ips device_owner device_id host_id".split(" "),
);

/** The steps that make a binding of what is there; only checks where nothing has to change. */
export function planBind(binding: PortBinding, objects: BindingObjects): WriteOp[] {
  const { portId, hostId } = binding;
  const steps = [
    put(modelPath("Port", portId), objects.port, (fields) => boundPort(fields, binding, objects.otherHostId)),
    put(modelPath("NeutronPort", portId), objects.neutronPort, (fields) => boundNeutronPort(fields, binding)),
    put(modelPath("Host", hostId), objects.host, (fields) => hostWithPort(fields, binding)),
  ];
  if (objects.otherHostId !== undefined && objects.otherHost !== undefined) {
    const path = modelPath("Host", objects.otherHostId);
    steps.push(put(path, objects.otherHost, (fields) => hostWithoutPort(fields, portId)));
  }
  return steps;
}

/** The steps that take a binding to this host away. */
export function planUnbind(
  what: { readonly portId: string; readonly hostId: string; readonly keepObjects: boolean },
  { host, port, neutronPort }: BindingObjects,
): WriteOp[] {
  const { portId, hostId, keepObjects } = what;
  const steps: WriteOp[] = [];
  if (host !== undefined)
    steps.push(put(modelPath("Host", hostId), host, (fields) => hostWithoutPort(fields, portId)));
  const path = modelPath("Port", portId);
  if (port === undefined || !within(path, () => isBoundTo(port, hostId))) return steps;
  if (keepObjects || !hasOnly(port, OUR_PORT_FIELDS)) {
    steps.push(put(path, port, (fields) => unboundPort(fields, hostId)));
    return steps;
  }
  steps.push({ kind: "delete", path, version: port.version });
  if (neutronPort !== undefined && isCertainly(() => hasOnly(neutronPort, OUR_NEUTRON_PORT_FIELDS))) {
    steps.push({ kind: "delete", path: modelPath("NeutronPort", portId), version: neutronPort.version });
  }
  return steps;
}

function put(path: string, znode: Znode | undefined, change: (fields: Fields) => Fields): WriteOp {
  const before = znode === undefined ? [] : within(path, () => parse(znode));
  const data = Buffer.from(printProtobufText(within(path, () => change(before))), "utf8");
  if (znode === undefined) return { kind: "create", path, data };
  // Compared as printed, so that another spelling of the same is no change.
  const isSame = data.equals(Buffer.from(printProtobufText(before), "utf8"));
  return isSame
    ? { kind: "check", path, version: znode.version }
    : { kind: "set", path, data, version: znode.version };
}

function boundPort(fields: Fields, binding: PortBinding, otherHostId: string | undefined): Fields {
  const set = setter(PORT_ORDER);
  let port = set(fields, "id", uuidValue(binding.portId));
  if (binding.networkId !== undefined) port = set(port, "network_id", uuidValue(binding.networkId));
  port = set(port, "host_id", uuidValue(binding.hostId));
  port = set(port, "interface_name", stringValue(binding.interfaceName));
  port = set(port, "admin_state_up", lastValue(port, "admin_state_up") ?? scalarValue("true"));
  return otherHostId === undefined ? port : set(port, "previous_host_id", uuidValue(otherHostId));
}

function unboundPort(fields: Fields, hostId: string): Fields {
  const withoutHost = withField(fields, PORT_ORDER, "host_id", []);
  const unbound = withField(withoutHost, PORT_ORDER, "interface_name", []);
  return setter(PORT_ORDER)(unbound, "previous_host_id", uuidValue(hostId));
}

function boundNeutronPort(fields: Fields, binding: PortBinding): Fields {
  const set = setter(NEUTRON_PORT_ORDER);
  let port = set(fields, "id", uuidValue(binding.portId));
  if (binding.networkId !== undefined) port = set(port, "network_id", uuidValue(binding.networkId));
  port = set(port, "tenant_id", stringValue(binding.projectId));
  port = set(port, "mac_address", stringValue(binding.macAddress));
  port = set(port, "admin_state_up", lastValue(port, "admin_state_up") ?? scalarValue("true"));
  port = withField(
    port,
    NEUTRON_PORT_ORDER,
    "fixed_ips",
    fixedIps(allValues(port, "fixed_ips"), binding.fixedIps),
  );
  port = set(port, "device_owner", scalarValue("COMPUTE"));
  port = set(port, "device_id", stringValue(binding.instanceId));
  return set(port, "host_id", stringValue(binding.hostName));
}

/** Those there already keep their subnet. */
function fixedIps(before: readonly ProtobufValue[], addresses: readonly string[]): ProtobufValue[] {
  const byAddress = new Map(before.map((value) => [addressOf(value), value]));
  return addresses.map(
    (address) => byAddress.get(address) ?? messageValue([{ name: "ip_address", value: ipAddress(address) }]),
  );
}

function addressOf(fixedIp: ProtobufValue): string | undefined {
  const address = lastValue(readMessage(fixedIp, "fixed_ips"), "ip_address");
  const text =
    address === undefined ? undefined : lastValue(readMessage(address, "fixed_ips.ip_address"), "address");
  return text?.kind === "string" ? text.bytes.toString("utf8").toLowerCase() : undefined;
}

function ipAddress(address: string): ProtobufValue {
  return messageValue([
    { name: "version", value: scalarValue(isIP(address) === 6 ? "V6" : "V4") },
    { name: "address", value: stringValue(address) },
  ]);
}

function hostWithPort(fields: Fields, { hostId, hostName, portId }: PortBinding): Fields {
  const set = setter(HOST_ORDER);
  const named = lastValue(fields, "name") === undefined ? set(fields, "name", stringValue(hostName)) : fields;
  const host = set(named, "id", uuidValue(hostId));
  const portIds = allValues(host, "port_ids");
  if (portIds.some((value) => readUuid(value, "port_ids") === portId)) return host;
  return withField(host, HOST_ORDER, "port_ids", [...portIds, uuidValue(portId)]);
}

function hostWithoutPort(fields: Fields, portId: string): Fields {
  const portIds = allValues(fields, "port_ids");
  const others = portIds.filter((value) => readUuid(value, "port_ids") !== portId);
  return others.length === portIds.length ? fields : withField(fields, HOST_ORDER, "port_ids", others);
}

function setter(order: readonly string[]): (fields: Fields, name: string, value: ProtobufValue) => Fields {
  return (fields, name, value) => withField(fields, order, name, [value]);
}

function isBoundTo(port: Znode, hostId: string): boolean {
  const boundTo = lastValue(parse(port), "host_id");
  return boundTo !== undefined && readUuid(boundTo, "host_id") === hostId;
}

function hasOnly(znode: Znode, names: ReadonlySet<string>): boolean {
  return parse(znode).every((field) => names.has(field.name));
}

/** What cannot be read is not known to be ours, and stays. */
function isCertainly(ask: () => boolean): boolean {
  try {
    return ask();
  } catch (error) {
    if (error instanceof NsdbError) return false;
    throw error;
  }
}

function parse(znode: Znode): ProtobufField[] {
  return parseProtobufText(znode.data.toString("utf8"));
}

/** Names the znode in an error about its content. */
export function within<T>(path: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    if (!(error instanceof NsdbError)) throw error;
    throw new NsdbError(error.code, `Cannot use znode "${path}": ${error.message}`, { path, cause: error });
  }
}
