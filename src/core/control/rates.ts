// n_kj for a list of classes and types: what one replica of class k sustains of type j alone.
import { classKey, type ModelSpec, type ReplicaClass, type WorkloadType } from '../domain/index.ts';
import { serviceRate } from '../replica/index.ts';
import type { ControllerConfig } from './config.ts';

export class ServiceRates {
  readonly #config: Pick<ControllerConfig, 'models' | 'engine' | 'stepTimeOf'>;
  readonly #known = new Map<string, number>();

  constructor(config: Pick<ControllerConfig, 'models' | 'engine' | 'stepTimeOf'>) {
    this.#config = config;
  }

  /**
   * @returns requests/s of one replica; row-major K × J, 0 where the class is of another model or the type does not fit.
   */
  matrix(classes: readonly ReplicaClass[], types: readonly WorkloadType[]): Float64Array {
    const rates = new Float64Array(classes.length * types.length);
    classes.forEach((replicaClass, k) => {
      types.forEach((type, j) => {
        if (type.model === replicaClass.model) rates[k * types.length + j] = this.#rate(replicaClass, type);
      });
    });
    return rates;
  }

  #rate(replicaClass: ReplicaClass, type: WorkloadType): number {
    const inputTokens = Math.max(1, Math.round(type.inputTokens));
    const outputTokens = Math.max(1, Math.round(type.outputTokens));
    const key = `${classKey(replicaClass)} ${inputTokens} ${outputTokens}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#known.size > 10_000) this.#known.clear();
    const model = modelOf(this.#config.models, replicaClass.model);
    const rate = serviceRate({
      model,
      replicaClass,
      engine: this.#config.engine,
      stepTime: this.#config.stepTimeOf(replicaClass, classKey(replicaClass)),
      inputTokens,
      outputTokens,
    });
    this.#known.set(key, rate);
    return rate;
  }
}

export function modelOf(models: readonly ModelSpec[], name: string): ModelSpec {
  const model = models.find((candidate) => candidate.name === name);
  if (!model) throw new Error(`Bug in oserve: model ${name} is not configured`);
  return model;
}
