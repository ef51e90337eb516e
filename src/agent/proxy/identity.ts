import { createHmac } from "node:crypto";
import type { Secret } from "../../config/secret.ts";
import type { Tenure } from "../ports/tenure.ts";
import { fitsHeader } from "../topology/model.ts";

/**
 * What nova compares: lower-case hex of HMAC-SHA256 over the instance id as it is sent. It depends on nothing
 * of the request, so it is made once for a tenure.
 *
 * @source nova/api/metadata/handler.py `_validate_shared_secret`
 */
export function signature(secret: Secret, instanceId: string): string {
  return createHmac("sha256", Buffer.from(secret.reveal(), "utf8")).update(instanceId, "utf8").digest("hex");
}

/** The headers, name after value, by which nova knows the guest. They go last, after all of the guest's own. */
export function identityHeaders(tenure: Tenure, secret: Secret): readonly string[] {
  return [
    "X-Forwarded-For",
    tenure.fixedAddress,
    "X-Instance-ID",
    tenure.instanceId,
    "X-Tenant-ID",
    tenure.projectId,
    "X-Instance-ID-Signature",
    signature(secret, tenure.instanceId),
  ];
}

/** Whether all that would be sent of a tenure can stand in a header: what the NSDB holds is anybody's text. */
export function isSendable({ instanceId, projectId, fixedAddress }: Tenure): boolean {
  return [instanceId, projectId, fixedAddress].every(fitsHeader);
}
