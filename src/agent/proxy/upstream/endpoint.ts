import type { Logger } from "../../log.ts";
import { removeFrom } from "../lists.ts";
import type { Outbox } from "../outbox.ts";
import type { Effort } from "../places.ts";
import { Lane } from "../port-share.ts";
import { type Connector, connectorTo, type NovaAddress } from "./connect.ts";
import type { AnswerListener, FailureKind, Line } from "./line.ts";
import type { TlsFiles } from "./tls-files.ts";
import { UndiciLine } from "./undici-line.ts";
import { WireLine } from "./wire-line.ts";

export type EndpointState = "unknown" | "healthy" | "ejected";

/** A question on its way, as far as its endpoint is concerned. */
export interface Unheard {
  /** On the clock of `performance.now()`. */
  readonly askedAt: number;
  /** How many questions that were asked later have been answered. */
  overtakers: number;
  readonly effort: Effort;
  /** How many questions its endpoint had when it was asked, itself among them. */
  beside: number;
  /** It takes so long that others do not wait for its place. */
  late(): void;
  /** The endpoint is silent: asks another one, if there is any and it may. */
  stalled(): void;
  /** The endpoint answers, but not this: asks again, if it has waited long and may. */
  overtaken(now: number): void;
}

/**
 * One nova-api-metadata: its lines, and whether it is worth asking. Only a connection that cannot be made, its
 * own health check, or that nothing at all is heard from it takes it out: an odd or a late answer to one guest's
 * request says nothing of the others'.
 */
export class Endpoint {
  readonly address: NovaAddress;
  readonly lane = new Lane();
  state: EndpointState = "unknown";
  reason: string | undefined;
  /** It answers `GET /`, and no documents: guests ask another one, if there is any, until it has had time to recover. */
  isMute = false;
  /** When a guest last got its document. */
  answeredAt = 0;
  /** Which of the two shared secrets nova took last: 0 the current one, 1 the previous. */
  secretIndex = 0;
  readonly #connect: Connector;
  readonly #log: Logger;
  readonly #outbox: Outbox;
  /** What has been asked and has no answer yet, the oldest first. */
  readonly #unheard: Unheard[] = [];
  #heardAt = Number.NEGATIVE_INFINITY;
  #muteUntil = 0;
  /** Lines for any request, and the lean ones for requests without a body over plain HTTP. */
  readonly #idle = { any: [] as Line[], lean: [] as Line[] };
  readonly #readBuffer = Buffer.allocUnsafe(READ_BYTES);
  #retired = false;
  #probe: { readonly line: Line; readonly deadlineAt: number } | undefined;
  #probeAt = 0;
  #slowProbes = 0;
  #backOffMs = MIN_BACK_OFF_MS;

  constructor(address: NovaAddress, tls: EndpointTls, log: Logger, outbox: Outbox) {
    this.address = address;
    this.#log = log;
    this.#outbox = outbox;
    this.#connect = connectorTo(address, tls.files, tls.serverName);
  }

  /**
   * A line that is nobody else's until it has answered: the preferred one if it can be had, so that an instance stays with the nova process that has
   * it in its cache; else the one used last; else a new one.
   *
   * @param cold Wants no connection that was used before, so that it cannot turn out to be gone.
   */
  borrow(preferred: Line | undefined, wants: Wants): Line {
    const line = this.#freeLine(preferred, wants);
    line.free = false;
    return line;
  }

  #freeLine(preferred: Line | undefined, wants: Wants): Line {
    const kind = wants.bodiless && !this.address.tls ? "lean" : "any";
    if (preferred?.free === true && preferred instanceof (kind === "lean" ? WireLine : UndiciLine)) {
      if (!(wants.cold && preferred.isWarm)) return preferred;
    }
    if (wants.cold) return this.#newLine(kind);
    const idle = this.#idle[kind];
    for (let line = idle.pop(); line !== undefined; line = idle.pop()) {
      line.shelved = false;
      if (line.free) return line;
    }
    return this.#newLine(kind);
  }

  asked(question: Unheard): void {
    question.overtakers = 0;
    question.beside = this.#unheard.push(question);
  }

  /** @param isAnswer Not that it came to nothing. */
  settled(question: Unheard, isAnswer: boolean): void {
    if (isAnswer) {
      this.#heardAt = performance.now();
      this.answeredAt = this.#heardAt;
      this.isMute = false;
      const { askedAt, effort, beside } = question;
      this.lane.places.answered({ ms: this.#heardAt - askedAt, effort, beside }, this.lane.isFull);
      for (const earlier of this.#unheard) {
        if (earlier === question) break;
        earlier.overtakers++;
      }
    }
    removeFrom(this.#unheard, question);
  }

  /** Something was odd: look at once whether nova is well, instead of judging by a guest's request. */
  suspect(): void {
    this.#probeAt = 0;
  }

  markHealthy(): void {
    if (this.state === "ejected") {
      this.#log.info({ endpoint: this.address.url }, "nova answers again: it gets requests again");
    }
    this.state = "healthy";
    this.reason = undefined;
    this.#backOffMs = MIN_BACK_OFF_MS;
    this.#slowProbes = 0;
  }

  eject(reason: string, now: number): void {
    if (this.state !== "ejected") {
      this.#log.warn(
        { endpoint: this.address.url, reason },
        "nova cannot be reached: its requests go to the other endpoints, or wait; check that nova-api-metadata runs there and agent.openstack.metadata.nova_metadata_url names it",
      );
    }
    this.state = "ejected";
    this.reason = reason;
    this.#probeAt = now + this.#backOffMs;
    this.#backOffMs = Math.min(this.#backOffMs * 2, MAX_BACK_OFF_MS);
  }

  /** To be called some times a second: begins and ends health checks. */
  tick(now: number): void {
    if (this.#retired) return;
    if (this.#probe !== undefined) {
      if (now > this.#probe.deadlineAt) this.#probeTimedOut(now);
    } else if (now >= this.#probeAt) {
      this.#startProbe(now);
    }
  }

  /**
   * To be called with {@link tick} where there are other endpoints: notices a nova that takes questions and says
   * nothing, as when its process is stopped or its host has died. One that is only slow answers somebody, or `GET /`.
   *
   * @param answeredBeside When another endpoint last gave a guest its document.
   */
  watch(now: number, answeredBeside: number): void {
    if (now > this.#muteUntil) this.isMute = false;
    const [oldest] = this.#unheard;
    if (oldest === undefined) return;
    this.#listenForDocuments(now, oldest, answeredBeside);
    const silentMs = this.#silentMs(now, oldest);
    if (silentMs > SUSPECT_MS && this.#probe === undefined && this.state !== "ejected") this.#startProbe(now);
    if (silentMs < this.#allowedMs) return;
    if (this.state !== "ejected") {
      this.#probe?.line.abandon();
      this.#probe = undefined;
      this.eject(`nothing heard for ${Math.round(silentMs)} ms, not even to GET /`, now);
    }
    for (const question of [...this.#unheard]) question.stalled();
  }

  /** Where all of nova is slow, the others are as well. */
  #listenForDocuments(now: number, oldest: Unheard, answeredBeside: number): void {
    const since = Math.max(this.answeredAt, oldest.askedAt);
    if (now - since > MUTE_MS && answeredBeside > since && !this.isMute) {
      this.isMute = true;
      this.#muteUntil = now + STAYS_MUTE_MS;
      this.#log.warn(
        { endpoint: this.address.url },
        `nova ${MUTE}, while another does: its requests go there; see the log of nova-api-metadata, and its database`,
      );
    }
    if (this.isMute) for (const question of [...this.#unheard]) question.overtaken(now);
  }

  /**
   * To be called instead of {@link tick} once it is retired. Its health no longer matters: what it is silent on is asked
   * where the operator wants it asked now.
   *
   * @returns Whether it still has questions.
   */
  watchRetired(now: number): boolean {
    const [oldest] = this.#unheard;
    if (oldest === undefined) return false;
    if (this.#silentMs(now, oldest) >= this.#allowedMs)
      for (const question of [...this.#unheard]) question.stalled();
    return true;
  }

  /**
   * To be called with {@link tick}: finds questions that sit in a process of nova which has stopped, or wait for each
   * other there, while the other processes answer. Where all of nova is slow, what was asked first is answered first.
   */
  findOvertaken(now: number): void {
    const isSilent = now - this.answeredAt > LATE_MS;
    for (const question of [...this.#unheard]) {
      const isOvertaken = question.overtakers >= MANY_OVERTAKERS;
      if ((isSilent || isOvertaken) && now - question.askedAt > LATE_MS) question.late();
      if (isOvertaken) question.overtaken(now);
    }
  }

  /** Ends what is idle now and what becomes idle later; what is being asked is answered. */
  retire(): void {
    this.#retired = true;
    this.#probe?.line.abandon();
    this.#probe = undefined;
    for (const line of [...this.#idle.any.splice(0), ...this.#idle.lean.splice(0)])
      if (line.free) line.close();
  }

  #silentMs(now: number, oldest: Unheard): number {
    return now - Math.max(this.#heardAt, oldest.askedAt);
  }

  /** For how long nothing may be heard. */
  get #allowedMs(): number {
    return Math.min(SILENT_MS + this.#unheard.length * SILENT_MS_FOR_EACH, MAX_SILENT_MS);
  }

  #newLine(kind: "any" | "lean"): Line {
    const idle = this.#idle[kind];
    if (kind === "lean")
      return new WireLine(this.address, this.#readBuffer, this.#outbox, (line) => this.#shelve(line, idle));
    return new UndiciLine(this.address, this.#connect, (line) => this.#shelve(line, idle));
  }

  #shelve(line: Line, idle: Line[]): void {
    if (this.#retired || idle.length >= MAX_IDLE_LINES) {
      line.close();
    } else if (!line.shelved) {
      line.shelved = true;
      idle.push(line);
    }
  }

  #startProbe(now: number): void {
    this.#probeAt = now + PROBE_EVERY_MS;
    const line = this.borrow(undefined, { cold: false, bodiless: false });
    const wasWarm = line.isWarm;
    this.#probe = { line, deadlineAt: now + PROBE_TIMEOUT_MS };
    let status = 0;
    const listener: AnswerListener = {
      onHead: (head) => {
        status = head.status;
        this.#heardAt = performance.now();
      },
      onBody: () => undefined,
      onWholeBody: () => undefined,
      onEnd: () => {
        this.#probe = undefined;
        if (status < 500) this.markHealthy();
        else this.eject(`GET / answers ${status}`, performance.now());
      },
      onFailure: (kind, error) => {
        this.#probe = undefined;
        this.#probeFailed(kind, error, wasWarm);
      },
    };
    line.ask({ ...HEALTH_CHECK, path: `${this.address.basePath}/` }, listener);
  }

  #probeFailed(kind: FailureKind, error: Error, wasWarm: boolean): void {
    if (kind === "stale" || (wasWarm && kind === "reset")) this.#probeAt = 0;
    else this.eject(`GET / failed: ${error.message}`, performance.now());
  }

  /**
   * A nova that builds metadata for many guests at once is slow, not gone: while it answers any of them it stays in, since
   * those would have to be built elsewhere once more, and else it takes two to be out.
   */
  #probeTimedOut(now: number): void {
    this.#probe?.line.abandon();
    this.#probe = undefined;
    if (now - this.#heardAt < PROBE_TIMEOUT_MS) return;
    this.#slowProbes++;
    this.#probeAt = now;
    if (this.#slowProbes < 2) return;
    this.eject(`GET / not answered within ${PROBE_TIMEOUT_MS} ms, twice`, now);
    for (const question of [...this.#unheard]) question.stalled();
  }
}

interface Wants {
  readonly cold: boolean;
  readonly bodiless: boolean;
}

export interface EndpointTls {
  readonly files: TlsFiles | undefined;
  readonly serverName: string | undefined;
}

/** `/` is answered without an identity. @source nova/api/metadata/handler.py */
const HEALTH_CHECK = {
  method: "GET",
  headers: [],
  headerLines: "",
  identity: { headers: [], lines: "" },
  body: undefined,
};
const READ_BYTES = 65_536;
/** What is wrong with one that {@link Endpoint.isMute}. */
export const MUTE = "answers GET / and no documents";
/** Longer than one under load is silent; see {@link MAX_SILENT_MS}. */
const MUTE_MS = 4_000;
const STAYS_MUTE_MS = 30_000;
const PROBE_EVERY_MS = 5_000;
const PROBE_TIMEOUT_MS = 2_000;
/** How long nothing may be heard before `GET /` is asked, and before that is enough. */
const SUSPECT_MS = 250;
const SILENT_MS = 800;
/**
 * How much longer for each question it has: nova under uwsgi answers nothing for seconds while its threads build metadata
 * for many, and who leaves it then has it all built once more. @source measured: 100 crawls at once on two endpoints took
 * 8 s with 0.8 s for any number of questions, 6 s with 3 s
 */
const SILENT_MS_FOR_EACH = 50;
const MAX_SILENT_MS = 3_000;
/** As many as one process of nova has at a time. @source nova-api-metadata-uwsgi.ini of Debian: 32 threads */
const MANY_OVERTAKERS = 32;
/** As long as a nova under load takes for what is not in its cache. */
const LATE_MS = 500;
const MIN_BACK_OFF_MS = 250;
const MAX_BACK_OFF_MS = 5_000;
const MAX_IDLE_LINES = 128;
