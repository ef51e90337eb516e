import { once } from "node:events";
import zookeeperClient, { type ACL, type Client } from "node-zookeeper-client";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../src/nsdb/open-store.ts";
import type { Store } from "../../src/nsdb/store.ts";
import { startZookeeper } from "../support/zookeeper.ts";

const { ALL, READ, CREATE, WRITE } = zookeeperClient.Permission;
const OWNER = new zookeeperClient.Id("auth", "");
const ANYONE = new zookeeperClient.Id("world", "anyone");
/** @source `echo -n other:pw | openssl dgst -sha1 -binary | base64` */
const OTHER = new zookeeperClient.Id("digest", "other:C9oU18wYV9MKI6QqDxMNatrbkNI=");

let server: Awaited<ReturnType<typeof startZookeeper>>;
/** Has the credentials too, and the bare package's way to ACLs. */
let owner: Client;
let roots = 0;
let root: string;
const opened: Store[] = [];

beforeAll(async () => {
  server = await startZookeeper();
  owner = zookeeperClient.createClient(server.address);
  owner.addAuthInfo("digest", Buffer.from("op:pw"));
  owner.connect();
  await once(owner, "connected");
});
afterAll(async () => {
  owner.close();
  await server.cleanUp();
});
beforeEach(() => {
  roots += 1;
  root = `/acl${roots}`;
});
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});

async function open(credentials: string): Promise<Store> {
  const store = await openStore(parseNsdbUrl(`zk://${credentials}${server.address}${root}`));
  opened.push(store);
  return store;
}

async function make(path: string, ...acl: ACL[]): Promise<void> {
  await new Promise<void>((resolve, reject) =>
    owner.create(root + path, Buffer.alloc(0), acl, (error) => (error ? reject(error) : resolve())),
  );
}

/** `scheme:user` and its permissions, sorted; a digest is left out. */
function whoMay(path: string): Promise<string[]> {
  return new Promise((resolve, reject) =>
    owner.getACL(root + path, (error, acl) => {
      if (error) reject(error);
      else
        resolve(
          acl.map((entry) => `${entry.id.scheme}:${entry.id.id.split(":")[0]} ${permissions(entry)}`).sort(),
        );
    }),
  );
}

/** The package's types have it under another name. */
function permissions(entry: ACL): number {
  return (entry as ACL & { readonly permission: number }).permission;
}

const create = (path: string) => ({ kind: "create", path, data: Buffer.from("topsecret") }) as const;

describe("ZookeeperStore.write() with credentials", () => {
  it("creates for those whom the znode above admits, also parents and what is below them", async () => {
    await make("", new zookeeperClient.ACL(ALL, OWNER), new zookeeperClient.ACL(READ, OTHER));
    const store = await open("op:pw@");
    await store.write([create("/config/templates/default"), create("/config/x"), create("/config/x/y")]);
    for (const path of ["/config", "/config/templates", "/config/templates/default", "/config/x/y"])
      expect(await whoMay(path)).toEqual([`digest:op ${ALL}`, `digest:other ${READ}`]);
    const [stranger, other] = [await open(""), await open("other:pw@")];
    await expect(stranger.get("/config/templates/default")).rejects.toMatchObject({ code: "denied" });
    expect((await other.get("/config/templates/default"))?.data.toString()).toBe("topsecret");
    await expect(other.write([create("/config/z")])).rejects.toMatchObject({ code: "denied" });
  });

  it("takes the nearest znode above, not the root key", async () => {
    await make("", new zookeeperClient.ACL(ALL, ANYONE));
    await make("/config", new zookeeperClient.ACL(ALL, OWNER));
    const store = await open("op:pw@");
    await store.write([create("/config/a/b"), create("/zoom/c")]);
    expect(await whoMay("/config/a/b")).toEqual([`digest:op ${ALL}`]);
    expect(await whoMay("/zoom/c")).toEqual([`world:anyone ${ALL}`]);
  });

  it("refuses where it may not see whom that is", async () => {
    await make(
      "",
      new zookeeperClient.ACL(ALL, OWNER),
      new zookeeperClient.ACL(READ | CREATE | WRITE, OTHER),
    );
    const other = await open("other:pw@");
    await expect(other.write([create("/config/a")])).rejects.toMatchObject({
      code: "denied",
      path: "/config/a",
      message: expect.stringMatching(/^Cannot create "\/config\/a" .*"admin"/),
    });
    expect(await other.get("/config")).toBeUndefined();
  });

  it("says that they are not admitted where they are not", async () => {
    await make("", new zookeeperClient.ACL(ALL, OWNER));
    const wrong = await open("op:wrong@");
    const denied = {
      code: "denied",
      message: expect.stringMatching(/does not admit the user and password given in the NSDB URL/),
    };
    await expect(wrong.get("/")).rejects.toMatchObject(denied);
    await expect(wrong.write([create("/a")])).rejects.toMatchObject(denied);
    const nobody = await open("");
    await expect(nobody.get("/")).rejects.toMatchObject({
      message: expect.stringMatching(/does not admit us; give "user:password@" in the NSDB URL$/),
    });
  });
});

it("ZookeeperStore.write() without credentials creates for everybody, as MidoNet's tools do", async () => {
  await make("", new zookeeperClient.ACL(ALL, OWNER), new zookeeperClient.ACL(CREATE | READ, ANYONE));
  const store = await open("");
  await store.write([create("/config/a")]);
  expect(await whoMay("/config/a")).toEqual([`world:anyone ${ALL}`]);
});
