// What real services look like, as numbers to generate from. Made by the command below from traces of the shared data, and
// held to them by a test; not meant to be edited by hand:
//
//   oserve trace fit FILE.csv.gz --components 6 --seed 1
//
// Sources and licences: Azure/AzurePublicDataset (CC-BY 4.0; Patel et al., Splitwise, ISCA 2024), kvcache-ai/Mooncake
// (Apache-2.0; Qin et al., FAST 2025), alibaba/ServeGen (Apache-2.0; arXiv 2505.09999).
import type { ServiceModel } from './fit-service.ts';

export type ServiceName = 'chat' | 'code' | 'long-chat' | 'reasoning';

export const SERVICES: Readonly<Record<ServiceName, ServiceModel>> = {
  /** Conversation service of Azure, November 2023: medium prompts, answers of one or two hundred tokens. */
  chat: {
    source: 'azure2023_conv_50min',
    lengths: [
      { weight: 0.2774, meanX: 6.9735, meanY: 6.0097, sigmaX: 0.0648, sigmaY: 0.0549, correlation: -0.0013 },
      { weight: 0.2573, meanX: 5.9885, meanY: 4.5324, sigmaX: 0.0422, sigmaY: 0.2533, correlation: 0.4094 },
      { weight: 0.2394, meanX: 7.3124, meanY: 4.8389, sigmaX: 0.4894, sigmaY: 0.7844, correlation: -0.2684 },
      { weight: 0.0914, meanX: 5.2935, meanY: 4.9465, sigmaX: 0.091, sigmaY: 0.4045, correlation: -0.3056 },
      { weight: 0.0841, meanX: 8.3159, meanY: 4.0132, sigmaX: 0.02, sigmaY: 0.4473, correlation: 0.0195 },
      { weight: 0.0503, meanX: 4.674, meanY: 3.9502, sigmaX: 1.2227, sigmaY: 1.0635, correlation: -0.5459 },
    ],
    inputTokens: [2, 14050],
    outputTokens: [7, 1000],
    minuteSigma: 0.1926,
    minuteCorrelation: 0.8154,
  },
  /** Code completion service of Azure, November 2023: long prompts, very short answers, in bursts. */
  code: {
    source: 'azure2023_code_first_half',
    lengths: [
      { weight: 0.3162, meanX: 7.6207, meanY: 2.5844, sigmaX: 0.6349, sigmaY: 0.364, correlation: -0.1266 },
      { weight: 0.1895, meanX: 5.3257, meanY: 2.4145, sigmaX: 1.2213, sigmaY: 0.3902, correlation: -0.0158 },
      { weight: 0.1726, meanX: 7.3869, meanY: 2.0228, sigmaX: 0.6526, sigmaY: 0.1883, correlation: -0.1067 },
      { weight: 0.1625, meanX: 7.5927, meanY: 3.8201, sigmaX: 0.6605, sigmaY: 0.9327, correlation: 0.0055 },
      { weight: 0.1126, meanX: 5.8193, meanY: 3.5899, sigmaX: 1.2949, sigmaY: 0.817, correlation: -0.0847 },
      { weight: 0.0467, meanX: 8.9124, meanY: 2.7104, sigmaX: 0.02, sigmaY: 0.6981, correlation: -0.0069 },
    ],
    inputTokens: [3, 7437],
    outputTokens: [6, 1899],
    minuteSigma: 0.8445,
    minuteCorrelation: 0.118,
  },
  /** Mooncake conversation trace (FAST 2025): prompts up to 126k tokens; a replica of 16k refuses almost a quarter. */
  'long-chat': {
    source: 'mooncake_conversation',
    lengths: [
      { weight: 0.2791, meanX: 9.4622, meanY: 6.0776, sigmaX: 0.8227, sigmaY: 0.2387, correlation: -0.0187 },
      { weight: 0.1926, meanX: 9.291, meanY: 5.6866, sigmaX: 0.9191, sigmaY: 0.7666, correlation: 0.2704 },
      { weight: 0.1889, meanX: 8.8782, meanY: 3.2234, sigmaX: 1.1422, sigmaY: 1.4003, correlation: -0.0897 },
      { weight: 0.1668, meanX: 8.5328, meanY: 5.9635, sigmaX: 0.7095, sigmaY: 0.3685, correlation: -0.3561 },
      { weight: 0.0918, meanX: 6.8093, meanY: 5.0803, sigmaX: 0.02, sigmaY: 1.4234, correlation: -0.1181 },
      { weight: 0.0807, meanX: 7.1873, meanY: 5.8762, sigmaX: 0.2255, sigmaY: 0.5183, correlation: 0.3134 },
    ],
    inputTokens: [891, 126195],
    outputTokens: [1, 2000],
    minuteSigma: 0.0962,
    minuteCorrelation: 0.4708,
  },
  /** DeepSeek-R1 at Alibaba Model Studio (ServeGen; requests reconstructed from measured rates and histograms): short
   * prompts, answers of thousands of tokens. */
  reasoning: {
    source: 'servegen_deepseekr1_requests_4rps',
    lengths: [
      { weight: 0.4025, meanX: 4.1383, meanY: 7.7965, sigmaX: 0.9069, sigmaY: 0.9194, correlation: 0.007 },
      { weight: 0.183, meanX: 7.9696, meanY: 6.3203, sigmaX: 1.2866, sigmaY: 0.9149, correlation: 0.2434 },
      { weight: 0.1687, meanX: 2.9516, meanY: 7.2041, sigmaX: 0.4396, sigmaY: 0.2128, correlation: 0.0324 },
      { weight: 0.134, meanX: 5.7354, meanY: 6.1379, sigmaX: 0.3918, sigmaY: 0.2887, correlation: 0.2401 },
      { weight: 0.0713, meanX: 2.9504, meanY: 6.3264, sigmaX: 0.4363, sigmaY: 0.337, correlation: -0.5181 },
      { weight: 0.0404, meanX: 5.3511, meanY: 7.2616, sigmaX: 0.02, sigmaY: 0.1251, correlation: -0.0611 },
    ],
    inputTokens: [4, 54550],
    outputTokens: [26, 32768],
    minuteSigma: 0.4257,
    minuteCorrelation: 0.9756,
  },
};
