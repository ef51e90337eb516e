/**
 * Which turn it is to be given, by the clock: one more each 10 ms, and with each the next of all numbers. An agent that
 * was started anew, or switched on again, knows nothing of the numbers that came free before: the kernel forgets them
 * with their ports. But it reads the same clock, so what was given in the last ten minutes lies behind where it begins.
 *
 * @param epochMs Of the wall clock: no other one goes on from one run to the next.
 */
export function turnAt(epochMs: number): number {
  return Math.floor(epochMs / MS_PER_TURN);
}

/**
 * More than a host's guests come at for long, and slow enough that all numbers take eleven minutes: a number rests for two
 * of them after its last port.
 */
const MS_PER_TURN = 10;
