import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createHostId, parseProperties, readHostId } from "../../src/nsdb/host-id.ts";

const ID = "1f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1";
let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "host-id-"));
  file = join(folder, "midonet_host_id.properties");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("readHostId()", () => {
  it.each([
    [`#Tue Nov 10 12:00:00 UTC 2020\nhost_uuid=${ID}\n`],
    [`! note\r\n  host_uuid : ${ID.toUpperCase()}  \r\n`],
    [`host_uuid ${ID}`],
    [`host_uuid=\nhost_uuid=${ID}`],
    [`host_\\\n   uuid = ${ID.slice(0, 9)}\\\n  ${ID.slice(9)}`],
    [`\\u0068ost_uuid=${ID}`],
  ])("reads %j", (text) => {
    writeFileSync(file, text);
    expect(readHostId(file)).toBe(ID);
  });

  it("makes none up, and says what to do", () => {
    const missing = expect.objectContaining({
      code: "no-host-id",
      message: expect.stringMatching(/--host-id-file.*--create-host-id/),
    });
    expect(() => readHostId(file)).toThrow(missing);
    expect(readdirSync(folder)).toEqual([]);
    writeFileSync(file, "#nothing\nhost_uuid=\n");
    expect(() => readHostId(file)).toThrow(missing);
  });

  it("refuses what is no UUID, naming file and value", () => {
    writeFileSync(file, "host_uuid=compute-1\n");
    expect(() => readHostId(file)).toThrow(
      expect.objectContaining({ code: "malformed", message: expect.stringMatching(/"compute-1"/) }),
    );
    expect(() => createHostId(file)).toThrow(expect.objectContaining({ code: "malformed" }));
  });
});

describe("a host id file that cannot be read", () => {
  /** Root may read everything, so another user does it. */
  const asNobody = <T>(action: () => T): T => {
    chmodSync(folder, 0o755);
    process.seteuid?.(65_534);
    try {
      return action();
    } finally {
      process.seteuid?.(0);
    }
  };

  it("is no host without an id: it is named, with the remedy", () => {
    writeFileSync(file, `host_uuid=${ID}\n`, { mode: 0o600 });
    for (const use of [readHostId, createHostId]) {
      expect(() => asNobody(() => use(file))).toThrow(
        expect.objectContaining({
          code: "denied",
          message: expect.stringMatching(new RegExp(`^Cannot read .*"${file}": EACCES.*; run as root, or`)),
        }),
      );
    }
  });

  it("is none where it is a folder", () => {
    expect(() => readHostId(folder)).toThrow(
      expect.objectContaining({ code: "malformed", message: expect.stringContaining(`"${folder}": EISDIR`) }),
    );
  });
});

describe("createHostId()", () => {
  it("writes MidoNet's format once, and then keeps it", () => {
    const hostId = createHostId(file);
    expect(readFileSync(file, "utf8")).toMatch(new RegExp(`^#.+\\nhost_uuid=${hostId}\\n$`));
    expect(createHostId(file)).toBe(hostId);
    expect(readHostId(file)).toBe(hostId);
    expect(readdirSync(folder)).toHaveLength(1);
  });

  it("does not overwrite a file without an id, nor fail silently", () => {
    writeFileSync(file, "other=1\n");
    expect(() => createHostId(file)).toThrow(
      expect.objectContaining({ code: "denied", message: expect.stringMatching(/remove it/) }),
    );
    expect(readFileSync(file, "utf8")).toBe("other=1\n");
    expect(() => createHostId(join(folder, "missing", "file"))).toThrow(
      expect.objectContaining({ code: "denied" }),
    );
    expect(readdirSync(folder)).toHaveLength(1);
  });
});

describe("parseProperties()", () => {
  it("knows Java's escapes and separators", () => {
    const text = "a\\ b=1\\t2\nc\\:d:e=f\ng = h\\\\\ni   j k\n#x=1\\\ny=2\nempty\n";
    expect(Object.fromEntries(parseProperties(text))).toEqual({
      "a b": "1\t2",
      "c:d": "e=f",
      g: "h\\",
      i: "j k",
      y: "2",
      empty: "",
    });
  });
});
