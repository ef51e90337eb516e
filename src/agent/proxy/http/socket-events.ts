import type { Socket } from "node:net";

/** What befalls a guest's socket. */
export interface SocketEvents {
  /** The guest sends no more. It may still listen. */
  guestEnded(): void;
  drained(): void;
  closed(): void;
}

/** Of an error nothing is told but that the socket is closed. */
export function tellSocketEvents(socket: Socket, listener: SocketEvents): void {
  (socket as HeardSocket)[LISTENER] = listener; // ours alone, by a symbol
  socket.on("end", onEnd);
  socket.on("error", onError);
  socket.on("close", onClose);
}

/** Once, when all that was written is out. */
export function tellDrained(socket: Socket): void {
  socket.once("drain", onDrain);
}

/** On the socket itself: functions for each of its events, once for all, instead of some for each socket. */
const LISTENER = Symbol("listener");

interface HeardSocket extends Socket {
  [LISTENER]?: SocketEvents;
}

function onEnd(this: HeardSocket): void {
  this[LISTENER]?.guestEnded();
}

function onDrain(this: HeardSocket): void {
  this[LISTENER]?.drained();
}

function onError(this: HeardSocket): void {
  this.destroy();
}

function onClose(this: HeardSocket): void {
  this[LISTENER]?.closed();
}
