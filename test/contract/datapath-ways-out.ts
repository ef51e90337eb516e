import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Datapath } from "../../src/datapath/datapath.ts";
import type { Plumbing } from "../../src/datapath/plumbing.ts";
import { NOTHING, portIdOf, sorted, type World } from "./datapath.ts";

/** The cases about the interface that answers leave by, which hold on every kernel. */
export function describeWaysOut(name: string, makeWorld: () => Promise<World>): void {
  describe(`${name}, where somebody made answers leave by another guest's interface`, () => {
    let world: World;
    let datapath: Datapath;
    let first: Plumbing;
    let second: Plumbing;

    beforeEach(async () => {
      world = await makeWorld();
      datapath = world.open();
      [first, second] = [await port(1), await port(2)];
    });

    afterEach(async () => {
      await datapath.sweep();
      await datapath.close();
      await world.close();
    });

    const port = async (index: number): Promise<Plumbing> => ({
      portId: portIdOf(index),
      interfaceName: `ct${index}`,
      ifindex: await world.plug(`ct${index}`),
      mac: `fa:16:3e:00:00:0${index}`,
      identities: [{ number: index, fixedAddress: "10.0.0.3" }],
    });
    const lead = (from: Plumbing, to: Pick<Plumbing, "ifindex">) =>
      world.change([
        `delete element netdev mn_metadata interface { ${from.ifindex} }`,
        `add element netdev mn_metadata interface { ${from.ifindex} : ${to.ifindex} }`,
      ]);
    const expectRight = async () => {
      const last = world.open();
      expect(await last.observe()).toMatchObject({ baseIntact: true });
      expect(await last.sync([first, second], "exact")).toEqual(NOTHING);
      await last.close();
    };

    test("whoever comes sees it, adopts all guests, and puts it right", async () => {
      await datapath.sync([first, second], "exact");
      await lead(first, second);
      await lead(second, first);
      const fresh = world.open();
      const { ports, baseIntact } = await fresh.observe();
      expect([sorted(ports), baseIntact]).toEqual([sorted([first, second]), false]);
      expect(await fresh.plan([first, second], "exact")).not.toBe("# nothing to do\n");
      expect(await fresh.sync([], "add-only")).toMatchObject({ failed: [], removed: [], repairedBase: true });
      await fresh.close();
      await expectRight();
    });

    test.each(["another guest's", "none that is there"])(
      "it is put right for a guest that comes later: %s",
      async (where) => {
        await datapath.sync([first], "exact");
        await lead(second, where === "another guest's" ? first : { ifindex: 54_321 });
        const fresh = world.open();
        expect((await fresh.observe()).ports).toEqual([first]);
        const report = await fresh.sync([first, second], "exact");
        expect(report).toMatchObject({ failed: [], repairedBase: true });
        await fresh.close();
        await expectRight();
      },
    );

    test("nothing is wrong with a guest that is plugged in after everything was read", async () => {
      await datapath.sync([first, second], "exact");
      const fresh = world.open();
      await fresh.observe();
      const third = await port(3);
      const report = await fresh.sync([first, second, third], "exact");
      expect(report).toEqual({ ...NOTHING, added: [third.portId] });
      await fresh.close();
    });

    test("it is no matter to others what an interface of nobody's is called", async () => {
      await datapath.sync([first], "exact");
      await lead(second, first);
      const fresh = world.open();
      expect(await fresh.observe()).toEqual({ ports: [first], baseIntact: true });
      expect(await fresh.sync([first], "exact")).toEqual(NOTHING);
      await fresh.close();
    });
  });
}
