import { describe, expect, it } from "vitest";
import { configOf } from "../../src/config/config.ts";
import { defaultValues, effectiveValues } from "../../src/config/effective.ts";
import { parseHocon } from "../../src/config/hocon/parser.ts";
import { isSecretKey, KEYS } from "../../src/config/keys.ts";
import { keysPage } from "../../src/config/keys-page.ts";
import { bundledSchema } from "../../src/config/schema.ts";
import { validate } from "../../src/config/validate.ts";

function problemsOf(text: string): readonly string[] {
  const schema = bundledSchema();
  const standIn = { values: defaultValues(schema), inForce: true };
  return effectiveValues([parseHocon(text, "test"), schema], standIn).problems.map(({ reason }) => reason);
}

describe("KEYS", () => {
  it("have valid defaults that pass the schema made of them", () => {
    const schema = bundledSchema();
    const standIn = { values: defaultValues(schema), inForce: false };
    expect(effectiveValues([schema], standIn)).toEqual({
      values: defaultValues(schema),
      problems: [],
      undecided: undefined,
    });
    expect(validate(schema, schema)).toEqual([]);
    expect(Object.isFrozen(configOf(defaultValues(schema)))).toBe(true);
  });

  it("are secret where their name says so, and only there", () => {
    for (const spec of Object.values(KEYS))
      expect(isSecretKey(spec.key.split(".")), spec.key).toBe(spec.secret);
  });

  it("are what docs/keys.md says; `npm test -- test/config/keys.test.ts -u` writes it", async () => {
    await expect(keysPage()).toMatchFileSnapshot("../../docs/keys.md");
  });

  it.each([
    'nova_metadata_url = "https://a:1, http://b, unix:/run/nova.sock, http://[fd00::1]:8775/base"',
    'nova_ca_file = "/etc/ssl/nova.pem"',
    "nova_server_name = nova.example.org",
    'reserved_ranges = ["169.254.20.10", "169.254.0.0/16"]',
    "reserved_ranges = []",
    "cache_ttl = 15s",
    "hold_time = 0",
    "request_burst = 100",
    "imdsv2 = Required",
  ])("take %s", (text) => {
    expect(problemsOf(`agent.openstack.metadata { ${text} }`)).toEqual([]);
  });

  it.each([
    ['nova_metadata_url = ""', "it should name at least one URL"],
    ['nova_metadata_url = "nova:8775"', "it should be http://host:port"],
    ['nova_metadata_url = "http://u:p@nova:8775"', "no user and no password"],
    ['nova_metadata_url = "http://nova:8775/?x"', "no query"],
    ['nova_metadata_url = "http://nova:99999"', "it should be http://host:port"],
    ['nova_ca_file = "relative.pem"', "absolute path"],
    ['nova_server_name = "a b"', "host name"],
    ['reserved_ranges = ["10.0.0.0/8"]', "inside 169.254.0.0/16"],
    ['reserved_ranges = ["169.254.0.0/8"]', "inside 169.254.0.0/16"],
    ["cache_ttl = 16s", "from 0 to 15000 ms"],
    ["hold_time = 3x", "0s to 60s"],
    ["request_burst = 99", "from 100 to 100000"],
    ["requests_per_second = many", "1 to 10000"],
    ["imdsv2 = perhaps", "optional or required"],
    ["enabled = 1", "true or false"],
  ])("refuse %s, because %s", (text, why) => {
    expect(problemsOf(`agent.openstack.metadata { ${text} }`)).toEqual([expect.stringContaining(why)]);
  });
});
