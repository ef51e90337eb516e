import { askAgent, ControlError, controlSocketPath } from "../control.ts";
import type { GlobalOptions } from "../options.ts";

/**
 * `mn-metadata sweep`: the kernel as if we had never been here.
 *
 * @throws {Error} If an agent runs, because it would put everything back.
 */
export async function sweepCommand({ runFolder }: GlobalOptions): Promise<void> {
  await refuseBesideAnAgent(controlSocketPath(runFolder));
  const { openDatapath } = await import("../../datapath/open-datapath.ts");
  const datapath = openDatapath();
  try {
    const removed = await datapath.sweep();
    process.stdout.write(
      removed.length === 0 ? "nothing of ours is in the kernel\n" : `${removed.join("\n")}\n`,
    );
  } finally {
    await datapath.close();
  }
}

async function refuseBesideAnAgent(socketPath: string): Promise<void> {
  let pid: number;
  try {
    const status = await askAgent<{ pid: number; enabled: boolean | null }>(socketPath, "/status");
    if (status.enabled === false) return;
    pid = status.pid;
  } catch (error) {
    if (error instanceof ControlError && error.code === "not-running") return;
    throw error;
  }
  throw new Error(
    `Cannot sweep while the agent runs (pid ${pid}): it would put everything back. Stop it first, or switch it off: mn-conf set 'agent.openstack.metadata.enabled : false' -t default`,
  );
}
