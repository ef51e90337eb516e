// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are HOCON references
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { getAt, setAt, unsetAt } from "../../../src/config/hocon/edit.ts";
import { HoconError } from "../../../src/config/hocon/error.ts";
import { parseHocon } from "../../../src/config/hocon/parser.ts";
import { parsePath, renderPath } from "../../../src/config/hocon/path.ts";
import { render, renderStored } from "../../../src/config/hocon/render.ts";
import { resolve, resolveAt } from "../../../src/config/hocon/resolve.ts";
import { EMPTY, stringOf } from "../../../src/config/hocon/tree.ts";

const path = fc.array(fc.oneof(fc.string(), fc.constantFrom("__proto__", "constructor", "a.b", "")), {
  minLength: 1,
  maxLength: 4,
});

function refusal(text: string): HoconError {
  try {
    resolve(parseHocon(text, "/config/templates/default"));
  } catch (error) {
    if (error instanceof HoconError) return error;
    throw error;
  }
  throw new Error("not refused");
}

describe("parseHocon()", () => {
  it("throws nothing but its own error, whatever it reads", () => {
    const signs = fc.constantFrom(...'{}[]:=,+$?"#/\\.-01eE \n\tabtruefalsnulic'.split(""));
    const texts = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(signs, { maxLength: 60 }).map((all) => all.join("")),
    );
    fc.assert(
      fc.property(texts, (text) => {
        try {
          render(resolve(parseHocon(text, "x")), { json: true });
        } catch (error) {
          expect(error).toBeInstanceOf(HoconError);
        }
      }),
      { numRuns: 5_000 },
    );
  });

  it("names the source and the line of a mistake", () => {
    expect(refusal("a = 1\nb = {\n c = \n}").message).toMatch(
      /^Cannot read "\/config\/templates\/default, line \d": expected a value for "c", found/,
    );
  });

  it.each(['include "x.conf"', 'include required(file("/etc/passwd"))', 'a { include url("http://h/") }'])(
    "refuses %s with the reason",
    (text) => {
      expect(refusal(text)).toMatchObject({ code: "include", message: expect.stringContaining("refused") });
    },
  );

  it("refuses what is nested too deep, is too long, or grows without end", () => {
    expect(refusal("a = ".concat("[".repeat(10_000))).code).toBe("limit");
    expect(refusal("a { ".repeat(10_000)).code).toBe("limit");
    expect(refusal(`${"a.".repeat(10_000)}b = 1`).code).toBe("limit");
    expect(refusal(`a = "${"x".repeat(4 * 1024 * 1024)}"`).code).toBe("limit");
    expect(refusal("${".repeat(100_000)).message).toContain("reference");
    expect(refusal("a = ${ ".repeat(100_000)).code).toBe("syntax");
    expect(refusal(`${"a.".repeat(100)}b { ${"a.".repeat(100)}b = 1 }`).code).toBe("limit");
    expect(refusal(`a = ${"[1]".repeat(100_000)}`).code).toBe("limit");
    expect(refusal("a += 1\n".repeat(100_000)).code).toBe("limit");
    const row = Array.from({ length: 10_000 }, (_, i) => `a${i} = \${a${i + 1}}`);
    expect(refusal(row.join("\n")).code).toBe("limit");
    const laughs = ["a0 = ha"];
    for (let i = 1; i < 40; i += 1) laughs.push(`a${i} = \${a${i - 1}}\${a${i - 1}}`);
    expect(refusal(laughs.join("\n")).code).toBe("limit");
    const lists = laughs.map((line) => line.replace("= ha", "= [1]").replace("}$", "} $"));
    expect(refusal(lists.join("\n")).code).toBe("limit");
  });

  it("reads ten thousand fields in a moment", () => {
    const text = Array.from({ length: 10_000 }, (_, i) => `"host-${i}" : "t${i}"`).join("\n");
    const began = performance.now();
    expect(parseHocon(text, "x").fields.size).toBe(10_000);
    expect(performance.now() - began).toBeLessThan(2_000);
  });

  it.each([
    ["a whole path for each key", (n: number) => `a.b.k${n} = ${n}`],
    ["the same object opened for each key", (n: number) => `a { b { k${n} = ${n} } }`],
  ])("reads twenty thousand fields with %s", (_, line) => {
    const text = Array.from({ length: 20_000 }, (_, n) => line(n)).join("\n");
    const fields = getAt(parseHocon(text, "x"), ["a", "b"]);
    expect(fields).toMatchObject({ kind: "object", resolved: true });
    expect(getAt(parseHocon(text, "x"), ["a", "b", "k19999"])).toMatchObject({ text: "19999" });
  });

  it("lets no key reach a prototype", () => {
    const root = resolve(parseHocon("__proto__.polluted = 1, constructor.prototype.polluted = 1", "x"));
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
    expect(getAt(root, ["__proto__", "polluted"])).toMatchObject({ text: "1" });
    expect(getAt(root, ["toString"])).toBeUndefined();
  });
});

describe("resolve()", () => {
  it.each(["a = ${b}\nb = ${a}", "a = ${a}", "a { b = ${a.c}, c = ${a.b} }"])(
    "finds the cycle of %j",
    (text) => {
      expect(refusal(text)).toMatchObject({ code: "cycle" });
    },
  );

  it("does not consult the environment", () => {
    expect(refusal("a = ${PATH}").code).toBe("reference");
  });
});

describe("+=", () => {
  it("adds up, many times over", () => {
    const root = resolve(parseHocon("a.b += 1\n".repeat(500), "x"));
    expect(getAt(root, ["a", "b"])).toMatchObject({ items: { length: 500 } });
  });
});

describe("resolveAt()", () => {
  it("does not mind what is broken elsewhere", () => {
    const root = parseHocon("a = ${b}, b = 1, c = ${nothing}", "x");
    expect(resolveAt(root, ["a"])).toMatchObject({ kind: "number", text: "1" });
  });
});

describe("paths", () => {
  it("survive being written and read", () => {
    fc.assert(
      fc.property(path, (elements) => {
        expect(parsePath(renderPath(elements))).toEqual(elements);
      }),
    );
  });
});

describe("setAt() and unsetAt()", () => {
  it("change what is stored, through any key and text", () => {
    fc.assert(
      fc.property(path, fc.string(), (elements, text) => {
        const stored = renderStored(setAt(EMPTY, elements, stringOf(text)));
        const read = parseHocon(stored, "x");
        expect(getAt(read, elements)).toMatchObject({ text });
        expect(getAt(unsetAt(read, elements), elements)).toBeUndefined();
        expect(renderStored(read)).toBe(stored);
      }),
    );
  });

  it("leave empty objects behind, as MidoNet does", () => {
    const root = parseHocon("agent.openstack.metadata.enabled = true", "x");
    expect(renderStored(unsetAt(root, parsePath("agent.openstack.metadata.enabled")))).toContain(
      '"metadata" : {}',
    );
  });
});
