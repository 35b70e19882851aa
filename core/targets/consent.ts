/** Consent to rights over the host. Anybody who can write to a target can write a manifest, so a container gets its rights only from
 *  this appliance's own seal (HMAC), or from a client that sends the digest of the rights that the plan lists. */
import { createHash } from 'node:crypto';
import { isOwnManifest, type Manifest, type Sealer } from '../archive/index.js';
import { type Grant, PluginError } from '../contract/index.js';
import { openVault } from '../secrets.js';

/** @throws Error when the appliance's key is damaged */
export async function openSealer(stateFolder: string): Promise<Sealer> {
  const vault = await openVault(stateFolder);
  return { appliance: vault.mac('', 'appliance').slice(0, 16), mac: (text) => vault.mac(text, 'manifest') };
}

export interface Asked {
  readonly grants: readonly Grant[];
  /** The digest that a client must send as `consent`; undefined when no consent is needed. */
  readonly consent?: string;
}

/** @param grants of a plan made from this very manifest object: reading it again could give another one */
export function requestConsent(sealer: Sealer, grants: readonly Grant[], manifest: Manifest): Asked {
  if (grants.length === 0 || isOwnManifest(manifest, sealer)) return { grants };
  return { grants, consent: digestOf(manifest.container.type, grants) };
}

const shownGrants = 5;
const shownLength = 200;

/** @throws PluginError needs_consent */
export function requireConsent({ grants, consent }: Asked, given: string | undefined): void {
  if (consent === undefined || consent === given) return;
  const some = grants.slice(0, shownGrants).map(({ code, what }) => `${code} ${what}`.slice(0, shownLength));
  const more = grants.length > shownGrants ? ` and ${grants.length - shownGrants} more` : '';
  const why = given === undefined ? 'it was not backed up by this appliance' : 'the consent is for other rights';
  const fix = 'look at POST /restore/plan and send its consent';
  throw new PluginError('needs_consent', `the container would have rights over this host (${some.join('; ')}${more}) and ${why}: ${fix}`);
}

/** SHA-256 in hex over the engine and the sorted rights. */
function digestOf(type: string, grants: readonly Grant[]): string {
  const pairs = grants.map(({ code, what }) => JSON.stringify([code, what])).sort();
  return createHash('sha256')
    .update(JSON.stringify([type, ...pairs]))
    .digest('hex');
}
