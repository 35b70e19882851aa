import { timingSafeEqual } from 'node:crypto';
import type { Manifest } from './manifest.js';

export interface Sealer {
  /** The appliance's public id. */
  readonly appliance: string;
  mac(text: string): string;
}

/** Whether `told` is the HMAC of the text. Compares in constant time. */
export function isMacOf(text: string, told: string, sealer: Sealer): boolean {
  const [own, other] = [Buffer.from(sealer.mac(text)), Buffer.from(told)];
  return other.length === own.length && timingSafeEqual(other, own);
}

const textWithoutSeal = ({ seal: _seal, ...manifest }: Manifest): string => JSON.stringify(manifest);

export function sealManifest(manifest: Manifest, sealer: Sealer): Manifest {
  return { ...manifest, seal: { appliance: sealer.appliance, mac: sealer.mac(textWithoutSeal(manifest)) } };
}

/** Whether this appliance wrote the manifest and nobody changed it since. A manifest without a valid seal is foreign. */
export function isOwnManifest(manifest: Manifest, sealer: Sealer): boolean {
  const given = manifest.seal?.mac;
  return typeof given === 'string' && isMacOf(textWithoutSeal(manifest), given, sealer);
}
