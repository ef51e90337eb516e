import { constants, type PerformanceEntry, PerformanceObserver } from "node:perf_hooks";
import { getHeapSpaceStatistics, type HeapSpaceInfo, setFlagsFromString } from "node:v8";

/**
 * Keeps V8 from spending memory that a proxy gains nothing from and that would be resident on every compute host.
 * The command line has flags for some of it, which whoever starts us would have to know. To be called once, at start.
 *
 * @source measured with 1,000 ports and 200 requests a second: bench/agent/memory.md
 */
export function boundHeap(): void {
  boundOldGeneration(WHILE_STARTING_PERCENT);
  setTimeout(() => boundOldGeneration(GROWING_PERCENT), STARTING_MS).unref();
  const observer = new PerformanceObserver((list) => {
    boundYoungGeneration();
    if (list.getEntries().some(isOfOldGeneration)) moveTogether(false);
  });
  observer.observe({ entryTypes: ["gc"] });
  setInterval(() => {
    const { physical_space_size: held, space_used_size: used } = spaceOf("old_space");
    if (held - used > HOLES_BYTES) moveTogether(true);
  }, LOOK_FOR_HOLES_EVERY_MS).unref();
}

/**
 * It is collected when it has grown by that much, not to three times what is alive.
 *
 * @source v8 src/heap/memory-controller.cc
 */
function boundOldGeneration(percent: number): void {
  setFlagsFromString(`--heap-growing-percent=${percent}`);
}

/**
 * By default it doubles up to 48 MiB. Its growing is decided anew after each collection; a quiet night makes it small
 * again, so it must also be let grow again.
 *
 * @source v8 src/heap/new-spaces.cc, NewSpace::Grow and NewSpace::Shrink
 */
function boundYoungGeneration(): void {
  const mayGrow = spaceOf("new_space").space_size < YOUNG_GENERATION_BYTES;
  setFlagsFromString(`--semi-space-growth-factor=${mayGrow ? 2 : 1}`);
}

/**
 * Whether the next collection of the old generation moves what is alive together wherever a fifth of a page is free, not
 * only where nearly all of it is. One in a minute at most: it also drops the hidden classes of what is not alive just
 * then, such as a guest's connection, and all code that knew them is compiled anew.
 *
 * @source v8 src/heap/mark-compact.cc, ComputeEvacuationHeuristics and RetainMaps; measured: with each collection, a
 *   request on a connection of its own cost up to 1.6 times the CPU in the first second after a pause
 */
function moveTogether(does: boolean): void {
  setFlagsFromString(does ? "--optimize-for-size" : "--no-optimize-for-size");
}

function isOfOldGeneration(entry: PerformanceEntry): boolean {
  // Not in node's types: what an entry of this kind tells besides.
  const { detail } = entry as PerformanceEntry & { readonly detail: { readonly kind: number } };
  return detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR;
}

function spaceOf(name: string): HeapSpaceInfo {
  const space = getHeapSpaceStatistics().find(({ space_name }) => space_name === name);
  if (space === undefined) throw new Error(`V8 has no heap space "${name}"`);
  return space;
}

const GROWING_PERCENT = 20;
/**
 * What the NSDB says is read then, and all of it stays: collecting finds nothing.
 *
 * @source measured: with 2,000 ports 1 to 15 % less CPU until they are in sync, and 10 to 13 MiB more until it is collected next
 */
const WHILE_STARTING_PERCENT = 60;
const STARTING_MS = 5_000;

/** Growth ends at the first size that reaches this. */
const YOUNG_GENERATION_BYTES = 8 << 20;
const HOLES_BYTES = 5 << 20;
const LOOK_FOR_HOLES_EVERY_MS = 60_000;
