import { describe, expect, it } from "vitest";
import {
  childPath,
  modelPath,
  nodePath,
  parentPath,
  schemaPath,
  templatePath,
} from "../../src/nsdb/paths.ts";

describe("paths", () => {
  it("are MidoNet's", () => {
    expect(nodePath("id")).toBe("/config/nodes/id");
    expect(templatePath("agent-compute-small")).toBe("/config/templates/agent-compute-small");
    expect(schemaPath("agent")).toBe("/config/schemas/agent");
    expect(modelPath("NeutronPort", "id")).toBe("/zoom/0/models/NeutronPort/id");
    expect(childPath("/", "config")).toBe("/config");
    expect([parentPath("/a/b"), parentPath("/a"), parentPath("/")]).toEqual(["/a", "/", "/"]);
  });

  it.each(["", ".", "..", "a/b", "../../etc/passwd", "a\u0000", "a\nb", "\u009f", "😀"])(
    "a name from outside cannot leave its parent, nor be what ZooKeeper refuses: %j",
    (name) => {
      expect(() => templatePath(name)).toThrow(
        expect.objectContaining({
          code: "usage",
          message: expect.stringMatching(/^Cannot name a znode .*below "\/config\/templates"/),
        }),
      );
    },
  );
});
