import { timingSafeEqual } from 'node:crypto';
import type { Manifest } from './manifest.js';

/** Tells an appliance its own manifests from those of anybody else who can write to the target. `mac` is HMAC-SHA-256 in hex,
 *  under the appliance's key, over the manifest's JSON without its seal. */
export interface Seal {
  readonly appliance: string;
  readonly mac: string;
}

export interface Sealer {
  /** This appliance's public id. */
  readonly appliance: string;
  mac(text: string): string;
}

const unsealedText = ({ seal: _seal, ...manifest }: Manifest): string => JSON.stringify(manifest);

export function sealedManifest(manifest: Manifest, sealer: Sealer): Manifest {
  return { ...manifest, seal: { appliance: sealer.appliance, mac: sealer.mac(unsealedText(manifest)) } };
}

/** Whether this appliance wrote the manifest, and wrote it so. What has no seal, or one of another shape, is foreign. */
export function isOwnManifest(manifest: Manifest, sealer: Sealer): boolean {
  const given = manifest.seal?.mac;
  if (typeof given !== 'string') return false;
  const own = Buffer.from(sealer.mac(unsealedText(manifest)));
  const told = Buffer.from(given);
  return told.length === own.length && timingSafeEqual(told, own);
}
