import { isIPv6, SocketAddress } from "node:net";
import { INTERFACE, PEER } from "../../datapath/base-ruleset.ts";
import type { NeutronPortModel, PortModel } from "../../nsdb/models.ts";
import { modelPath } from "../../nsdb/paths.ts";
import { type ComputePort, fitsHeader, type TopologyProblem } from "./model.ts";

/**
 * The guest's port that the two objects of one id make, or undefined where they make none of this host's: another
 * owner than nova, another host, no binding. That is no problem; a field that cannot be used is.
 *
 * @param problems Takes what is wrong with a port that would otherwise be served.
 */
export function computePortOf(
  portId: string,
  hostId: string,
  port: PortModel,
  neutronPort: NeutronPortModel,
  problems: TopologyProblem[],
): ComputePort | undefined {
  if (port.hostId !== hostId || port.interfaceName === undefined) return undefined;
  if (neutronPort.deviceOwner !== "COMPUTE") return undefined;
  const { interfaceName } = port;
  if (!isInterfaceName(interfaceName)) {
    const reason = `field "interface_name" is ${JSON.stringify(interfaceName)}, but should be a Linux interface name: 1 to 15 letters, digits or any of . _ - : @ + =`;
    problems.push({ znode: modelPath("Port", portId), reason });
    return undefined;
  }
  if (OWN.has(interfaceName)) {
    const reason = `field "interface_name" is "${interfaceName}", which is the host's own: no guest is plugged into it`;
    problems.push({ znode: modelPath("Port", portId), reason });
    return undefined;
  }
  if (neutronPort.macAddress === "") {
    const reason = 'field "mac_address" is missing, but replies to the guest need it';
    problems.push({ znode: modelPath("NeutronPort", portId), reason });
    return undefined;
  }
  const isNamed = namesAreUsable(portId, neutronPort, problems);
  return {
    portId,
    interfaceName,
    mac: neutronPort.macAddress,
    fixedAddresses: addressesOf(neutronPort),
    ...(isIpv6Only(neutronPort) ? { isIpv6Only: true } : {}),
    // Its guest is told that there is no instance, instead of nothing at all.
    instanceId: isNamed ? neutronPort.deviceId : "",
    projectId: isNamed ? neutronPort.tenantId : "",
  };
}

/** Both go to nova in headers. */
function namesAreUsable(
  portId: string,
  { deviceId, tenantId }: NeutronPortModel,
  problems: TopologyProblem[],
): boolean {
  const names = { device_id: deviceId, tenant_id: tenantId };
  const [wrong] = Object.entries(names).filter(([, value]) => !fitsHeader(value));
  if (wrong === undefined) return true;
  const [field, value] = wrong;
  const reason = `field "${field}" is ${JSON.stringify(value.slice(0, 300))}, but should be an id without blanks: no header can carry it to nova`;
  problems.push({ znode: modelPath("NeutronPort", portId), reason });
  return false;
}

const OWN: ReadonlySet<string> = new Set(["lo", INTERFACE, PEER]);

function isIpv6Only({ fixedIps }: NeutronPortModel): boolean {
  return fixedIps.length > 0 && fixedIps.every((address) => isIPv6(address));
}

/** Host entries of the allowed address pairs are addresses that the guest may ask from; wider ones name nobody. */
function addressesOf({ fixedIps, allowedAddressPairs }: NeutronPortModel): readonly string[] {
  const pairs = allowedAddressPairs
    .filter(({ address, prefixLength }) => prefixLength === (isIPv6(address) ? 128 : 32))
    .map(({ address }) => address);
  return [...new Set([...fixedIps, ...pairs].map(canonical))];
}

/** One spelling per address, so that the same address twice is one, and kernel and NSDB can be compared. */
function canonical(address: string): string {
  return isIPv6(address) ? new SocketAddress({ address, family: "ipv6" }).address : address;
}

/**
 * Linux allows nearly any byte in a name; these are the ones that tools give, and none of them means anything in an
 * nft script or a path.
 *
 * @source linux net/core/dev.c dev_valid_name, linux/if.h IFNAMSIZ
 */
function isInterfaceName(name: string): boolean {
  return /^[A-Za-z0-9._:@+=-]{1,15}$/.test(name) && name !== "." && name !== "..";
}
