import { PerformanceObserver } from "node:perf_hooks";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/**
 * Keeps V8 from spending memory that a proxy gains nothing from and that would be resident on every compute host.
 * The command line has flags for all of it, which whoever starts us would have to know. To be called once, at start.
 *
 * @source measured with 1,000 ports and 200 requests a second: 112 to 118 MiB resident instead of 139 to 173
 */
export function boundHeap(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
  boundYoungGeneration();
}

/**
 * By default it doubles up to 48 MiB. Its growing is decided anew after each collection, and can be ended then.
 *
 * @source v8 src/heap/new-spaces.cc, NewSpace::Grow
 */
function boundYoungGeneration(): void {
  const observer = new PerformanceObserver(() => {
    const newSpace = getHeapSpaceStatistics().find(({ space_name: name }) => name === "new_space");
    if (newSpace === undefined || newSpace.space_size < YOUNG_GENERATION_BYTES) return;
    setFlagsFromString("--semi-space-growth-factor=1");
    observer.disconnect();
  });
  observer.observe({ entryTypes: ["gc"] });
}

/** Growth ends at the first size that reaches this. */
const YOUNG_GENERATION_BYTES = 8 << 20;
/**
 * How far the old generation may grow beyond what was alive in it before it is collected again; by default up to
 * three times as far.
 *
 * @source v8 src/heap/memory-controller.cc, MemoryController::GrowingFactor
 */
const GROWTH_PERCENT = 20;
