import { timingSafeEqual } from 'node:crypto';
import type { Manifest } from './manifest.js';

export interface Sealer {
  /** This appliance's public id. */
  readonly appliance: string;
  mac(text: string): string;
}

/** Whether a text's HMAC is the one that was told, in a time that does not depend on where they differ. */
export function isMacOf(text: string, told: string, sealer: Sealer): boolean {
  const [own, other] = [Buffer.from(sealer.mac(text)), Buffer.from(told)];
  return other.length === own.length && timingSafeEqual(other, own);
}

const textWithoutSeal = ({ seal: _seal, ...manifest }: Manifest): string => JSON.stringify(manifest);

export function sealManifest(manifest: Manifest, sealer: Sealer): Manifest {
  return { ...manifest, seal: { appliance: sealer.appliance, mac: sealer.mac(textWithoutSeal(manifest)) } };
}

/** Whether this appliance wrote the manifest, and wrote it so. What has no seal, or one of another shape, is foreign. */
export function isOwnManifest(manifest: Manifest, sealer: Sealer): boolean {
  const given = manifest.seal?.mac;
  return typeof given === 'string' && isMacOf(textWithoutSeal(manifest), given, sealer);
}
