// What is believed of the traffic before any of it was seen: one type per model.
import type { ModelSpec, WorkloadModel, WorkloadType } from '../domain/index.ts';

/** Mean lengths of ServeGen's m-large service (908 in, 143 out), a service whose trace is not among those that results are reported on. */
const PRIOR_INPUT_TOKENS = 908;
const PRIOR_OUTPUT_TOKENS = 143;

const priorId = (model: string): string => `${model}/prior`;

/** Whether a type is still the guess that a model starts with. */
export const isPrior = ({ id, model }: Pick<WorkloadType, 'id' | 'model'>): boolean => id === priorId(model);

export const priorWorkload = (models: readonly ModelSpec[]): WorkloadModel => ({
  version: 0,
  fittedToSeconds: -1,
  types: models.map(({ name }) => ({
    id: priorId(name),
    model: name,
    inputTokens: PRIOR_INPUT_TOKENS,
    outputTokens: PRIOR_OUTPUT_TOKENS,
    logInput: Math.log(PRIOR_INPUT_TOKENS),
    logOutput: Math.log(PRIOR_OUTPUT_TOKENS),
    samples: [],
  })),
  posteriorCounts: {},
});
