import { readConfig } from "../../config/live.ts";
import { LinkTable } from "../../datapath/links.ts";
import { openDatapath } from "../../datapath/open-datapath.ts";
import { modelPath } from "../../nsdb/paths.ts";
import type { Store } from "../../nsdb/store.ts";
import { openNsdb } from "../open-nsdb.ts";
import type { GlobalOptions } from "../options.ts";
import { activity } from "../ports/active.ts";
import { PortTable } from "../ports/port-table.ts";
import { Releases } from "../releases.ts";
import { reservedNumbers } from "../settings.ts";
import type { TopologySnapshot } from "../topology/model.ts";
import { Topology } from "../topology/topology.ts";

/**
 * `mn-metadata plan`: what a started agent would do to the kernel now, from the NSDB and the kernel alone.
 * The numbers of ports that are new are what a starting agent would give.
 */
export async function planCommand(options: GlobalOptions): Promise<void> {
  const opened = new Releases();
  try {
    const { store, hostId } = await openNsdb({ ...options, rootMustExist: true });
    opened.add(() => store.close());
    const config = await readConfig(store, hostId);
    const datapath = openDatapath();
    opened.add(() => datapath.close());
    if (!config.enabled) {
      process.stdout.write(
        "# agent.openstack.metadata.enabled is false: the agent would remove what of ours is there\n",
      );
      return;
    }
    const links = await LinkTable.list();
    const snapshot = await readTopology(store, hostId);
    const isReserved = reservedNumbers(config);
    const table = new PortTable({
      quarantineMs: 0,
      isReserved: (number) => isReserved(number) || datapath.isHosts(number),
      now: () => 0,
    });
    table.adopt((await datapath.observe()).ports);
    const { active } = activity(
      snapshot.ports.values(),
      (interfaceName) => links.get(interfaceName),
      (portId, interfaceName) => table.holds(portId, interfaceName),
    );
    for (const { znode, reason } of snapshot.problems)
      process.stdout.write(`# skipped ${znode}: ${reason}\n`);
    const { want, refused } = table.open(active);
    for (const [portId, reason] of refused) process.stdout.write(`# port ${portId}: ${reason}\n`);
    process.stdout.write(await datapath.plan(want, "exact"));
  } finally {
    await opened.close();
  }
}

/** @throws {Error} Where this host's object cannot be used, or the NSDB takes too long. */
function readTopology(store: Store, hostId: string): Promise<TopologySnapshot> {
  return new Promise((resolve, reject) => {
    const end = (how: () => void): void => {
      clearTimeout(timer);
      topology.close();
      how();
    };
    const topology = new Topology(store, hostId, (snapshot) => {
      const ofHost = snapshot.problems.find(({ znode }) => znode === modelPath("Host", hostId));
      if (snapshot.inSync) end(() => resolve(snapshot));
      else if (ofHost !== undefined)
        end(() => reject(new Error(`Cannot plan: "${ofHost.znode}": ${ofHost.reason}`)));
    });
    const tooLong = new Error(`Cannot plan: ${store.url} was not read within ${READ_MS / 1_000} s`);
    const timer = setTimeout(() => end(() => reject(tooLong)), READ_MS);
  });
}

const READ_MS = 30_000;
