/**
 * What has been opened, to be closed in reverse, also when opening stops half-way.
 * (Node 20 has no AsyncDisposableStack.)
 */
export class Releases {
  readonly #releases: (() => Promise<void> | void)[] = [];

  add(release: () => Promise<void> | void): void {
    this.#releases.push(release);
  }

  /**
   * Closes everything, the newest first; one failure does not keep the rest open.
   *
   * @throws {AggregateError} With every failure.
   */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    for (let release = this.#releases.pop(); release !== undefined; release = this.#releases.pop()) {
      try {
        await release();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, "Cannot close everything");
  }
}
