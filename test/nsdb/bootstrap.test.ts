import { describe, expect, it } from "vitest";
import { resolveNsdb } from "../../src/nsdb/bootstrap.ts";
import { parseIni } from "../../src/nsdb/ini.ts";
import { formatNsdbUrl } from "../../src/nsdb/nsdb-url.ts";

function resolved(
  option: string | undefined,
  env: Record<string, string>,
  files: Record<string, string> = {},
) {
  const { url, from, warnings } = resolveNsdb(option, env, (path) => files[path]);
  return { url: formatNsdbUrl(url), from, warnings };
}
const zookeeper = (hosts: string, rootKey?: string) =>
  `[zookeeper]\nzookeeper_hosts = ${hosts}\n${rootKey === undefined ? "" : `root_key = ${rootKey}\n`}`;

describe("resolveNsdb()", () => {
  it("takes the option before MN_NSDB before MidoNet's places", () => {
    const env = { MN_NSDB: "dir:/b", MIDO_ZOOKEEPER_HOSTS: "c:1", HOME: "/root" };
    expect(resolved("dir:/a", env)).toEqual({ url: "dir:/a", from: "--nsdb", warnings: [] });
    expect(resolved(undefined, env)).toEqual({ url: "dir:/b", from: "MN_NSDB", warnings: [] });
    expect(resolved(undefined, { ...env, MN_NSDB: "" })).toMatchObject({
      url: "zk://c:1/midonet",
      from: "MIDO_ZOOKEEPER_HOSTS",
    });
    expect(resolved(undefined, {})).toEqual({
      url: "zk://127.0.0.1:2181/midonet",
      from: "default",
      warnings: [],
    });
  });

  it("looks for each key in turn: environment, ~/.midonetrc, midonet.conf, midolman.conf", () => {
    const files = {
      "/home/op/.midonetrc": zookeeper("rc:1"),
      "/etc/midonet/midonet.conf": zookeeper("midonet:1", "/from-midonet"),
      "/etc/midolman/midolman.conf": zookeeper("midolman:1", "/from-midolman"),
    };
    const env = { HOME: "/home/op" };
    expect(resolved(undefined, { ...env, MIDO_ZOOKEEPER_ROOT_KEY: "/env" }, files).url).toBe("zk://rc:1/env");
    expect(resolved(undefined, env, files)).toMatchObject({
      url: "zk://rc:1/from-midonet",
      from: "/home/op/.midonetrc",
    });
    expect(resolved(undefined, {}, files).url).toBe("zk://midonet:1/from-midonet");
    const { "/etc/midolman/midolman.conf": last } = files;
    expect(resolved(undefined, env, { "/etc/midolman/midolman.conf": last }).url).toBe(
      "zk://midolman:1/from-midolman",
    );
  });

  it("replaces the root key of an old MidoNet, with a warning", () => {
    const found = resolved(undefined, { MIDO_ZOOKEEPER_ROOT_KEY: "/midonet/v1" });
    expect(found.url).toBe("zk://127.0.0.1:2181/midonet");
    expect(found.warnings).toEqual([expect.stringMatching(/"\/midonet\/v1" of MIDO_ZOOKEEPER_ROOT_KEY/)]);
  });

  it("goes on past a file that it cannot read, and says so", () => {
    const { url, warnings } = resolveNsdb(undefined, {}, (path) => {
      if (path.startsWith("/etc/midonet")) throw new Error("EACCES: permission denied");
      return zookeeper("next:1");
    });
    expect(formatNsdbUrl(url)).toBe("zk://next:1/midonet");
    expect(warnings).toEqual([expect.stringMatching(/midonet\.conf": EACCES/)]);
  });

  it("names the place of a bad value", () => {
    const message = (place: RegExp) =>
      expect.objectContaining({ code: "usage", message: expect.stringMatching(place) });
    expect(() => resolved("nonsense", {})).toThrow(message(/"nonsense".*\(from --nsdb\)$/));
    expect(() => resolved(undefined, { MN_NSDB: "zk://" })).toThrow(message(/\(from MN_NSDB\)$/));
    const files = { "/etc/midonet/midonet.conf": zookeeper("a:b:c") };
    expect(() => resolved(undefined, {}, files)).toThrow(message(/"a:…".*midonet\.conf\)$/));
  });
});

describe("parseIni()", () => {
  it("reads as MidoNet's parser does", () => {
    const text = [
      "\ufeffearly = 1",
      "; comment",
      "# comment",
      "[zookeeper]",
      "zookeeper_hosts = 10.0.0.1:2181,10.0.0.2:2181 ; trailing",
      "no value at all",
      "[openstack.metadata]\r",
      'shared_secret = "quo ted"  ',
      "semi = a;b#c",
      "'' = x",
      'escaped = "a \\"b\\" c" rest',
      "[midolman]",
      "datapath : mydp",
      "empty =",
    ].join("\n");
    expect(parseIni(text)).toEqual([
      { section: undefined, key: "early", value: "1" },
      { section: "zookeeper", key: "zookeeper_hosts", value: "10.0.0.1:2181,10.0.0.2:2181" },
      { section: "openstack.metadata", key: "shared_secret", value: "quo ted" },
      { section: "openstack.metadata", key: "semi", value: "a;b#c" },
      { section: "openstack.metadata", key: "''", value: "x" },
      { section: "openstack.metadata", key: "escaped", value: 'a "b" c' },
      { section: "midolman", key: "datapath", value: "mydp" },
      { section: "midolman", key: "empty", value: "" },
    ]);
  });
});
