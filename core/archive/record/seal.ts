import { timingSafeEqual } from 'node:crypto';
import { type Manifest, type NewManifest, sealedHashOf } from './manifest.js';
import { hashToSeal } from './manifest-file.js';

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

/** What the HMAC of format 2 is over: the hash of all bytes of the file before `,"mac"`. No other text of the appliance begins so. */
const textOf = (sha256: string): string => `manifest\n${sha256}`;

export function sealManifest({ seal: _seal, ...manifest }: NewManifest, { appliance, mac }: Sealer): NewManifest {
  const sha256 = hashToSeal({ ...manifest, seal: { appliance } });
  return { ...manifest, seal: { appliance, mac: mac(textOf(sha256)) } };
}

/** What the HMAC of format 1 is over: the JSON of all keys but the seal. */
const textWithoutSeal = ({ seal: _seal, ...manifest }: Manifest): string => JSON.stringify(manifest);

function sealedText(manifest: Manifest): string | undefined {
  if (manifest.format === 1) return textWithoutSeal(manifest);
  const sha256 = sealedHashOf(manifest);
  return sha256 === undefined ? undefined : textOf(sha256);
}

/** Whether this appliance wrote the manifest and nobody changed it since. A manifest without a valid seal is foreign.
 *  @param manifest as parseManifest returned it, not a copy */
export function isOwnManifest(manifest: Manifest, sealer: Sealer): boolean {
  const [given, text] = [manifest.seal?.mac, sealedText(manifest)];
  return typeof given === 'string' && text !== undefined && isMacOf(text, given, sealer);
}
