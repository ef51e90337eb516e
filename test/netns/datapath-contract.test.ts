import { openDatapath } from "../../src/datapath/open-datapath.ts";
import { describeDatapath } from "../contract/datapath.ts";
import { ifindexOf, must, replaceOurRule, run } from "../support/namespace.ts";

describeDatapath("the real kernel", async () => {
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
    replaceRule: replaceOurRule,
    close: async () => {
      for (const name of plugged) await run("ip", "link", "del", name);
    },
  };
});
