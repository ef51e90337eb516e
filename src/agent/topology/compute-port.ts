import { isIPv6, SocketAddress } from "node:net";
import type { NeutronPortModel, PortModel } from "../../nsdb/models.ts";
import { modelPath } from "../../nsdb/paths.ts";
import type { ComputePort, TopologyProblem } from "./model.ts";

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
  if (neutronPort.macAddress === "") {
    const reason = 'field "mac_address" is missing, but replies to the guest need it';
    problems.push({ znode: modelPath("NeutronPort", portId), reason });
    return undefined;
  }
  return {
    portId,
    interfaceName,
    mac: neutronPort.macAddress,
    fixedAddresses: addressesOf(neutronPort),
    ...(isIpv6Only(neutronPort) ? { isIpv6Only: true } : {}),
    instanceId: neutronPort.deviceId,
    projectId: neutronPort.tenantId,
  };
}

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
