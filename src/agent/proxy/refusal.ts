import { STATUS_CODES } from "node:http";
import type { Answer } from "./answer.ts";
import { AnswerHead } from "./http/answer-head.ts";
import { requestId } from "./recent.ts";

/**
 * What somebody is told of whom nothing can be asked.
 *
 * @param inSync Whether the port table is complete.
 */
export function unknownGuest(isPortKnown: boolean, inSync: boolean): { status: number; text: string } {
  if (isPortKnown) return { status: 404, text: "no instance is known for this port" };
  if (inSync) return { status: 404, text: "no port is known for this address" };
  return { status: 503, text: "the ports of this host are not known yet" };
}

/**
 * One plain line of ours instead of nova's answer, with the id by which the log and `explain` know the request.
 *
 * @param allow The methods that a 405 tells; by default those of the one path where others are refused.
 */
export function refusalOf(status: number, text: string, serial: number, allow = "PUT"): Answer {
  const body = `${status} ${text} (request ${requestId(serial)})\n`;
  const headers = ["Content-Type", "text/plain; charset=utf-8", "Content-Length", String(body.length)];
  if (status === 503 || status === 429) headers.push("Retry-After", "1");
  if (status === 401) headers.push("WWW-Authenticate", 'X-aws-ec2-metadata-token realm="/latest/api/token"');
  if (status === 405) headers.push("Allow", allow);
  return { head: new AnswerHead(status, STATUS_CODES[status] ?? "", headers), body };
}
