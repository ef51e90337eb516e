import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseUuid, uuidFromHalves, uuidToHalves } from "../../src/nsdb/uuid.ts";

describe("uuid", () => {
  it.each([
    ["5d0f3c1e-8a47-4b6e-9d21-0c7be4f3a915", 6705644472044571502n, 11322344664447822101n],
    ["a2c4e6f8-1b3d-4f57-8e90-7c5d3b1a2f48", 11728753282862894935n, 10272847489897475912n],
    ["c3e1f0d2-b4a5-4968-9778-a6b5c4d3e2f1", 14114827494920374632n, 10914656996553908977n],
    ["1f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1", 2246800662264956824n, 9842518810263020273n],
    ["80000000-0000-4000-8000-000000000000", 9223372036854792192n, 9223372036854775808n],
    ["ffffffff-ffff-ffff-ffff-ffffffffffff", 18446744073709551615n, 18446744073709551615n],
    ["00000000-0000-0000-0000-000000000000", 0n, 0n],
  ])("%s has MidoNet's halves", (uuid, msb, lsb) => {
    expect(uuidToHalves(uuid)).toEqual({ msb, lsb });
    expect(uuidFromHalves({ msb, lsb })).toBe(uuid);
  });

  it("halves and back give the same", () => {
    fc.assert(
      fc.property(fc.uuid(), (uuid) => {
        expect(uuidFromHalves(uuidToHalves(uuid))).toBe(uuid);
      }),
    );
  });

  it("parseUuid() makes lower case, and refuses what is none", () => {
    expect(parseUuid("5D0F3C1E-8A47-4B6E-9D21-0C7BE4F3A915")).toBe("5d0f3c1e-8a47-4b6e-9d21-0c7be4f3a915");
    for (const text of [
      "",
      "5d0f3c1e",
      "5d0f3c1e8a474b6e9d210c7be4f3a915",
      " 5d0f3c1e-8a47-4b6e-9d21-0c7be4f3a915",
      "g0000000-0000-0000-0000-000000000000",
      "../../../etc",
    ]) {
      expect(parseUuid(text)).toBeUndefined();
    }
  });
});
