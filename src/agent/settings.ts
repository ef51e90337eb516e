import type { Config } from "../config/config.ts";
import { isReservedNumber } from "../datapath/link-local.ts";
import type { ProxySettings } from "./proxy/settings.ts";

/** What of the configuration the proxy acts on. */
export function proxySettings(config: Config): ProxySettings {
  const { previousSharedSecret } = config;
  return {
    novaUrls: config.novaMetadataUrls,
    sharedSecret: config.sharedSecret,
    previousSharedSecret: previousSharedSecret.isEmpty ? undefined : previousSharedSecret,
    holdMs: config.holdMs,
    slowDocumentMs: config.slowDocumentMs,
    cacheTtlMs: config.cacheTtlMs,
    imdsv2: config.imdsv2,
    requestsPerSecond: config.requestsPerSecond,
    requestBurst: config.requestBurst,
    tls: {
      caFile: config.novaCaFile,
      certFile: config.novaClientCertFile,
      keyFile: config.novaClientKeyFile,
      serverName: config.novaServerName,
    },
  };
}

/** The numbers that the operator keeps for something else. */
export function reservedNumbers(config: Config): (number: number) => boolean {
  return isReservedNumber(config.reservedRanges);
}
