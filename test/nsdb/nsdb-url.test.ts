import { describe, expect, it } from "vitest";
import { formatNsdbUrl, parseHosts, parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";

describe("nsdb-url", () => {
  it.each([
    ["zk://10.0.0.1:2181,10.0.0.2:2182/midonet", "zk://10.0.0.1:2181,10.0.0.2:2182/midonet"],
    ["zk://a", "zk://a:2181/midonet"],
    ["zk://a,b:1/", "zk://a:2181,b:1/"],
    ["zk://[::1]:2181/a/b/", "zk://[::1]:2181/a/b"],
    ["zk://[fe80::1%eth0]", "zk://[fe80::1%eth0]:2181/midonet"],
    ["zk://me:s3c%40ret@zk1:2181,zk2/m", "zk://zk1:2181,zk2:2181/m"],
    ["dir:/var/lib/nsdb", "dir:/var/lib/nsdb"],
    ["dir:///var/lib/nsdb/", "dir:/var/lib/nsdb"],
  ])("reads %s", (text, formatted) => {
    expect(formatNsdbUrl(parseNsdbUrl(text))).toBe(formatted);
  });

  it("keeps credentials out of sight, and IPv6 addresses without brackets", () => {
    expect(parseNsdbUrl("zk://me:s3c%40ret@[::1]:1/m")).toEqual({
      kind: "zookeeper",
      hosts: [{ host: "::1", tcpPort: 1 }],
      rootKey: "/m",
      digest: "me:s3c@ret",
    });
  });

  it.each([
    "",
    "nsdb",
    "http://a/b",
    "zk://",
    "zk:///midonet",
    "zk://a:0",
    "zk://a:99999",
    "zk://a b",
    "zk://::1",
    "zk://a//b",
    "zk://a/../b",
    "dir:",
  ])("refuses %j with a sentence", (text) => {
    expect(() => parseNsdbUrl(text)).toThrow(
      expect.objectContaining({ code: "usage", message: expect.stringMatching(/^Cannot .*: /) }),
    );
  });

  it("does not repeat credentials in an error", () => {
    for (const text of [
      "zk://me:s3cret@",
      "zk://s3cret@a",
      "zk://me:s3cret%zz@a",
      "zkk://me:s3cret@a/b",
      "me:s3cret@a",
      "zk://me:s3/cret@a:2181/midonet",
      "zk://me:x@s3cret@a",
      "zk://me:x@y/s3cret@a/midonet",
      " zk://me:x@s3cret@a",
      "zk://me:s3cret,zk1:2181/midonet",
      "zk://zk1,me:s3/cret,zk2",
    ]) {
      expect(() => parseNsdbUrl(text)).toThrow(
        expect.objectContaining({ message: expect.not.stringMatching(/s3|cret/) }),
      );
    }
  });

  it("names a host that it cannot read, without what may be a password", () => {
    for (const [text, shown] of [
      ["zk1,me:s3cret@zk2", '"…@zk2"'],
      ["me:s3cret", '"me:…"'],
      ["zk one:1", '"zk one:1"'],
      ["fe80::1", '"fe80::1"'],
    ] as const) {
      expect(() => parseHosts(text)).toThrow(
        expect.objectContaining({ code: "usage", message: expect.stringContaining(`host ${shown}: it`) }),
      );
    }
  });
});
