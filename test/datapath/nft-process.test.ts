import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { NftProcess } from "../../src/datapath/nft-process.ts";

describe("`NftProcess`, where nft fails", () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "mn-nft-"));
  });

  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  /** One that says that and ends so. */
  const nftThatSays = (complaint: string, code: number): NftProcess => {
    const command = join(folder, "nft");
    writeFileSync(command, `#!/bin/sh\necho '${complaint}' >&2\nexit ${code}\n`);
    chmodSync(command, 0o755);
    return new NftProcess({ command });
  };

  test("`listTable()` takes only its own word for a table that is not there", async () => {
    const nft = nftThatSays("Error: No such file or directory", 1);
    expect(await nft.listTable("inet", "mn_metadata")).toBeUndefined();
  });

  // @source measured: prlimit --as=7000000 nft -j list table …
  test.each([
    "utils.c:38: Memory allocation failure",
    "mnl.c:190: Memory allocation failure",
    "Error: Too many open files",
    "",
  ])("`listTable()` does not take %o for a table that is not there", async (complaint) => {
    const nft = nftThatSays(complaint, 3);
    await expect(nft.listTable("inet", "mn_metadata")).rejects.toMatchObject({
      code: "failed",
      message: expect.stringContaining(
        `Cannot read the ruleset: nft could not (${complaint || "nft said nothing"})`,
      ),
    });
  });
});
