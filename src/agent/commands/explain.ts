import { askAgent, controlSocketPath } from "../control.ts";
import type { PortExplanation } from "../explain.ts";
import type { GlobalOptions } from "../options.ts";
import { aligned } from "../port-row.ts";

/** `mn-metadata explain`. @returns 0 where every port that was named is served, and a probe got through, else 1. */
export async function explainCommand(
  { runFolder }: GlobalOptions,
  what: string,
  probe: boolean,
  asJson: boolean,
): Promise<number> {
  const query = new URLSearchParams({ what, ...(probe ? { probe: "" } : {}) });
  const explanations = await askAgent<readonly PortExplanation[]>(
    controlSocketPath(runFolder),
    `/explain?${query}`,
  );
  process.stdout.write(
    asJson ? `${JSON.stringify(explanations, null, 2)}\n` : explanations.map(screen).join("\n"),
  );
  return explanations.every(({ served, probe: result }) => served && result?.ok !== false) ? 0 : 1;
}

function screen(facts: PortExplanation): string {
  const lines = [
    ["port", facts.port],
    ["instance", facts.instanceId === "" ? "(none named by Neutron)" : facts.instanceId],
    ["interface", `${facts.interface} (${facts.link})`],
    ...facts.addresses.map(({ fixedAddress, linkLocal }) => [
      "address",
      `${fixedAddress} is ${linkLocal} to the proxy`,
    ]),
    ["kernel", facts.plumbed ? "holds its plumbing" : "does not hold its plumbing"],
    ...(facts.packetsFromGuest === undefined
      ? []
      : [["packets", `${facts.packetsFromGuest} taken from the guest`]]),
    ...facts.lastRequests
      .slice(0, 5)
      .map(({ at, method, path, status, durationMs, requestId }) => [
        "request",
        `${new Date(at).toISOString()} ${method} ${path} -> ${status} in ${durationMs.toFixed(1)} ms (${requestId})`,
      ]),
    ...(facts.probe === undefined ? [] : [["probe", facts.probe.sentence]]),
    ["verdict", facts.verdict],
  ];
  return aligned(lines);
}
