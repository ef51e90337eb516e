import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NsdbError } from "../../src/nsdb/error.ts";
import {
  type ProtobufField,
  type ProtobufValue,
  parseProtobufText,
  printProtobufText,
} from "../../src/nsdb/protobuf-text.ts";
import { HOST, NEUTRON_PORT, PORT } from "./samples.ts";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

describe("protobuf text", () => {
  it.each([
    ["NeutronPort", NEUTRON_PORT, 629, "25c17bbbf3d7d4a5239b0695772d138421978e8f25ac5c84bb3636ae86bd19aa"],
    ["Port", PORT, 343, "903c18781c70537f2efbe937c29b1de65f2bcaf09709975c90b95a62f33dc174"],
    ["Host", HOST, 185, "c374b888ac9cfc46a34a3f0da1eef75daca7bd683f04b217e25f2958023f9670"],
  ])("prints MidoNet's %s byte by byte as it was", (_, sample, size, digest) => {
    expect(sha256(sample)).toBe(digest);
    const printed = printProtobufText(parseProtobufText(sample));
    expect(printed).toBe(sample);
    expect(Buffer.byteLength(printed)).toBe(size);
  });

  it.each([
    ["comments", "# all\na: 1 # rest\n#end", "a: 1\n"],
    ["single quotes and joined strings", `n: 'a' "b"\n'c'`, 'n: "abc"\n'],
    [
      "angle brackets, also mixed",
      "a < b { c: 1 } > d { e < > }",
      "a {\n  b {\n    c: 1\n  }\n}\nd {\n  e {\n  }\n}\n",
    ],
    ["a colon before a message", "a: { b: 1 }", "a {\n  b: 1\n}\n"],
    ["separators", "a: 1, b: 2; c { d: 3 }, e: 4;", "a: 1\nb: 2\nc {\n  d: 3\n}\ne: 4\n"],
    ["lists", "a: [1, 2] b: [] c [{ d: 1 }, < d: 2 >]", "a: 1\na: 2\nc {\n  d: 1\n}\nc {\n  d: 2\n}\n"],
    ["extensions", "[org.midonet.x] { y: 1 } [a.b]: 2", "[org.midonet.x] {\n  y: 1\n}\n[a.b]: 2\n"],
    [
      "numbers of every spelling",
      "a: -1 b: 0x1F c: 017 d: 1.5e-3 e: -inf f: .5",
      "a: -1\nb: 0x1F\nc: 017\nd: 1.5e-3\ne: -inf\nf: .5\n",
    ],
    [
      "all on one line",
      'nope{a:1 b{c:"x"}}name:"k"# c',
      'nope {\n  a: 1\n  b {\n    c: "x"\n  }\n}\nname: "k"\n',
    ],
    ["fields by number", '103: 5 104 { 1: "x" }', '103: 5\n104 {\n  1: "x"\n}\n'],
    ["nothing", " \n\t# only this", ""],
    ["escapes", String.raw`a: "\x41\X7\101\7\n\t\?\'\"\\"`, `a: "A\\aA\\a\\n\\t?\\'\\"\\\\"\n`],
    [
      "text beyond ASCII as octal, and 0x7f raw",
      'a: "é\u007f\u0001€😀"',
      'a: "\\303\\251\u007f\\001\\342\\202\\254\\360\\237\\230\\200"\n',
    ],
  ])("reads %s", (_, text, printed) => {
    expect(printProtobufText(parseProtobufText(text))).toBe(printed);
  });

  it.each([
    ["a", /line 1, column 2 is the end of the text/],
    ["a:", /a value should be here/],
    ["a: 1\nb {", /line 2, column 4.*"}" should be here/],
    ["a: {", /"}"/],
    ["a < b: 1 }", /">"|name should be here/],
    ["}", /name should be here/],
    ['a: "x', /line 1 has a string without its closing quote/],
    ['\na: "x\ny"', /line 2 has a string without/],
    [String.raw`a: "\q"`, /no escape sequence/],
    ['"a": 1', /name should be here/],
    ["a 1", /":" or "\{" should be here/],
    ["a: [1", /"," should be here/],
    ["[a", /"\]" should be here/],
    [`a { `.repeat(2_000), /nested more than/],
    [`a: "${"x".repeat(9_000_000)}"`, /should be at most/],
  ])("refuses %.40j and says where", (text, message) => {
    const parse = () => parseProtobufText(text);
    expect(parse).toThrow(NsdbError);
    expect(parse).toThrow(message);
  });

  it("reads a list of any length, also inside a message", () => {
    const list = `n: [${"1,".repeat(299_999)}1]`;
    expect(parseProtobufText(list)).toHaveLength(300_000);
    const [message] = parseProtobufText(`m { ${list} }`);
    expect(message?.value.kind === "message" && message.value.fields.length).toBe(300_000);
  });

  it("throws nothing but its own error, whatever the text", () => {
    const token = fc.constantFrom(
      "{",
      "}",
      "<",
      ">",
      "[",
      "]",
      ":",
      ",",
      ";",
      '"',
      "'",
      "\\",
      "#",
      "\n",
      "a",
      "id",
      "0x",
      "-",
      "7",
      "\u0000",
      "é",
      "\ud800",
    );
    const texts = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(token, { maxLength: 60 }).map((parts) => parts.join("")),
      mutated(),
    );
    fc.assert(
      fc.property(texts, (text) => {
        try {
          const printed = printProtobufText(parseProtobufText(text));
          expect(printProtobufText(parseProtobufText(printed))).toBe(printed);
        } catch (error) {
          if (!(error instanceof NsdbError) || error.code !== "malformed") throw error;
        }
      }),
      { numRuns: 3_000 },
    );
  });

  it("parse() undoes print() for any tree", () => {
    fc.assert(
      fc.property(tree(), (fields) => {
        expect(parseProtobufText(printProtobufText(fields))).toEqual(fields);
      }),
      { numRuns: 500 },
    );
  });
});

function mutated(): fc.Arbitrary<string> {
  return fc
    .tuple(fc.nat(NEUTRON_PORT.length), fc.nat(20), fc.string({ unit: "binary", maxLength: 5 }))
    .map(
      ([at, removed, inserted]) => NEUTRON_PORT.slice(0, at) + inserted + NEUTRON_PORT.slice(at + removed),
    );
}

function tree(): fc.Arbitrary<ProtobufField[]> {
  const name = fc.stringMatching(/^[a-z_][a-z0-9_]{0,8}$/);
  const { fields } = fc.letrec<{ fields: ProtobufField[]; value: ProtobufValue }>((tie) => ({
    fields: fc.array(fc.record({ name, value: tie("value") }), { maxLength: 4 }),
    value: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      fc
        .uint8Array({ maxLength: 20 })
        .map((bytes): ProtobufValue => ({ kind: "string", bytes: Buffer.from(bytes) })),
      fc
        .bigInt({ min: 0n, max: 2n ** 64n - 1n })
        .map((number): ProtobufValue => ({ kind: "scalar", text: String(number) })),
      tie("fields").map((inner): ProtobufValue => ({ kind: "message", fields: inner })),
    ),
  }));
  return fields;
}
