import { openDatapath } from "../../src/datapath/open-datapath.ts";
import { describeDatapath, type World } from "../contract/datapath.ts";
import { describeWaysOut } from "../contract/datapath-ways-out.ts";
import { ifindexOf, must, replaceOurRule, run } from "../support/namespace.ts";

const makeWorld = async (): Promise<World> => {
  const plugged = new Set<string>();
  return {
    open: openDatapath,
    plug: async (name) => {
      await must("ip", "link", "add", "name", name, "type", "veth", "peer", "name", `${name}-p`);
      plugged.add(name);
      return ifindexOf(name);
    },
    unplug: async (name) => {
      await must("ip", "link", "del", name);
      plugged.delete(name);
    },
    flushRuleset: async () => {
      await must("nft", "flush", "ruleset");
    },
    change: async (script) => {
      await must("nft", script.join("; "));
    },
    replaceRule: replaceOurRule,
    close: async () => {
      for (const name of plugged) await run("ip", "link", "del", name);
    },
  };
};

describeDatapath("the real kernel", makeWorld);
describeWaysOut("the real kernel", makeWorld);
