import { describe, expect, it } from "vitest";
import { isSendable, signature } from "../../../src/agent/proxy/identity.ts";
import { makeToken, tokenExpiry, ttlSeconds } from "../../../src/agent/proxy/imds-token.ts";
import { Secret } from "../../../src/config/secret.ts";
import { tenureOf } from "./lab.ts";

const I = "7b1c9d2e-3f40-4a51-8b62-c7d8e9fa0b1c";

describe("signature()", () => {
  it.each([
    ["", "", "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"],
    ["", I, "365bddcfccdc3c8818df6ded6605bd300e983c0b2f938aa470016cb7ddf2ee42"],
    ["s3cret", I, "21f46bcaf406b574bd15c59caba1a9c09b38a92b999f5e816503ef828dd29b54"],
    ["s3cret", "instance 42", "88d2254c9480f8c142bf50cc3e03752857ac254cc47772dafa44c52c853ecea7"],
    [
      "pa:ss/w+rd==",
      "c0ffee00-1234-4abc-8def-0123456789ab",
      "bd5f9f5d70d9741b9cf162b5ae6367e801788dfda0aa8bd0003b6c75e30cd55a",
    ],
    ["sécret", I, "d18fac5c7162947aca1a237063eed2618f8b2c67baea05b77c022c74e4bb2ea2"],
    ["k".repeat(65), I, "21bc540b033c68303c9c3476c563d4c1665881940a6b69b65bb21c74368f4550"],
  ])("with the key %j over %j is what nova makes", (key, data, expected) => {
    expect(signature(new Secret(key), data)).toBe(expected);
  });
});

describe("isSendable()", () => {
  it.each(["a\r\nb", "a b", "\u0000", "é", "a".repeat(256)])("refuses %j", (text) => {
    expect(isSendable({ ...tenureOf(1), instanceId: text })).toBe(false);
    expect(isSendable({ ...tenureOf(1), projectId: text })).toBe(false);
  });

  it("accepts what Neutron makes", () => {
    expect(isSendable({ ...tenureOf(1), fixedAddress: "fd00::5" })).toBe(true);
  });
});

describe("an IMDSv2 token", () => {
  const secret = new Secret("s3cret");

  it("is only its own tenure's, and only under its own secret", () => {
    const token = makeToken(secret, tenureOf(1), 1_234_567_890_123);
    expect(tokenExpiry(secret, tenureOf(1), token)).toBe(1_234_567_890_123);
    for (const over of [{ portId: "x" }, { instanceId: "x" }, { fixedAddress: "x" }, { linkLocal: "x" }]) {
      expect(tokenExpiry(secret, { ...tenureOf(1), ...over }, token)).toBeUndefined();
    }
    expect(tokenExpiry(new Secret("other"), tenureOf(1), token)).toBeUndefined();
    for (let i = 0; i < token.length - 1; i++) {
      const changed = `${token.slice(0, i)}${token[i] === "A" ? "B" : "A"}${token.slice(i + 1)}`;
      expect(tokenExpiry(secret, tenureOf(1), changed)).toBeUndefined();
    }
  });

  it.each(["1", "60", "21600"])("may live %s seconds", (text) => expect(ttlSeconds(text)).toBe(Number(text)));
  it.each([undefined, "", "0", "21601", "-1", "1.5", "1e3", " 60", "60s"])(
    "may not live %j seconds",
    (text) => expect(ttlSeconds(text)).toBeUndefined(),
  );
});
