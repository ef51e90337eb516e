import { IpMonitor } from "../../datapath/link-monitor.ts";
import { LinkTable } from "../../datapath/links.ts";
import { openDatapath } from "../../datapath/open-datapath.ts";
import { RtnetlinkSocket } from "../../datapath/rtnetlink-socket.ts";
import { boundHeap } from "../heap-bounds.ts";
import { openLog } from "../log.ts";
import { openNsdb } from "../open-nsdb.ts";
import type { GlobalOptions } from "../options.ts";
import { Releases } from "../releases.ts";
import { runAgent } from "../run-agent.ts";
import { shutdownSignal } from "../shutdown.ts";

/** `mn-metadata agent`: opens what the agent stands on, and runs it until a signal. */
export async function agentCommand(
  { runFolder, ...options }: GlobalOptions,
  createHostId: boolean,
  version: string,
): Promise<void> {
  boundHeap();
  const signal = shutdownSignal();
  const log = openLog();
  const opened = new Releases();
  try {
    const { store, hostId } = await openNsdb({ ...options, createHostId, rootMustExist: true });
    opened.add(() => store.close());
    const datapath = openDatapath();
    opened.add(() => datapath.close());
    const links = new LinkTable(new RtnetlinkSocket(), new IpMonitor());
    opened.add(() => links.close());
    await runAgent({ store, hostId, datapath, links, log, runFolder, version }, signal);
  } finally {
    await opened.close();
  }
}
