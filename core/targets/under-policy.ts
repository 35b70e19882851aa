/** Opens every target of a plugin, so that none escapes the policy. */
import type { PluginOpening, Plugins } from '../plugins/loaded.js';
import { Bandwidth, type Policy, type PolicyTarget, withPolicy } from '../policy/index.js';

/** The policy that a caller chooses for its target. */
export interface PolicyOpening extends PluginOpening, Pick<Policy, 'stallMs' | 'connections' | 'waits'> {
  /** No limit when absent. */
  readonly bandwidth?: Bandwidth;
}

/** Opens a target by its plugin. Messages call it `name`. @throws as Plugins.openTarget */
export async function openUnderPolicy(
  plugins: Plugins,
  plugin: { readonly id: string; readonly options: unknown; readonly name: string },
  o: PolicyOpening,
): Promise<PolicyTarget> {
  const { signal, log, bandwidth = new Bandwidth(), stallMs, connections, waits } = o;
  const target = await plugins.openTarget(plugin.id, plugin.options, { signal, log });
  const more = { ...(connections !== undefined && { connections }), ...(waits && { waits }) };
  return withPolicy(target, { name: plugin.name, bandwidth, stallMs, signal, log, ...more });
}
