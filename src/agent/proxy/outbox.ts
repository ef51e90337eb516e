/** Who has something to send. */
export interface Sender {
  /** Sends what has come together. May have nothing any more. */
  flush(): void;
}

/**
 * Has everything that is written in one turn of the event loop sent at its end. Whoever reads it, nova or a guest, is
 * then woken once and finds all of it, instead of being woken for each piece and going to sleep before the next.
 *
 * @source measured, 24 rounds in turns, CPU a request: 10 and 12 % less on kept connections, 128 and 16 at a time, that
 *   share nothing; 3 to 8 % less with a connection each
 */
export class Outbox {
  #senders: Sender[] = [];
  #sending: Sender[] = [];

  /** Has {@link Sender.flush} called at the end of this turn. */
  add(sender: Sender): void {
    if (this.#senders.push(sender) === 1) setImmediate(this.#sendAll);
  }

  readonly #sendAll = (): void => {
    [this.#senders, this.#sending] = [this.#sending, this.#senders];
    for (const sender of this.#sending) sender.flush();
    this.#sending.length = 0;
  };
}
