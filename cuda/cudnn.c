/* What cuDNN does here, where it has an engine: convolutions and attention. */
#include "cudnn_graph.h"

const sid2_kernel sid2_cuda_cudnn[SID2_OP_COUNT] = {
    [SID2_OP_conv2d] = {sid2_cudnn_run_conv, sid2_cudnn_prepare_conv, sid2_cudnn_release_conv},
    [SID2_OP_conv2d_dgrad] = {sid2_cudnn_run_conv, sid2_cudnn_prepare_conv, sid2_cudnn_release_conv},
    [SID2_OP_conv2d_wgrad] = {sid2_cudnn_run_wgrad, sid2_cudnn_prepare_wgrad, sid2_cudnn_release_conv},
    [SID2_OP_attention] = {sid2_cudnn_run_attention, sid2_cudnn_prepare_attention, NULL},
    [SID2_OP_attention_grad] = {sid2_cudnn_run_attention_grad, sid2_cudnn_prepare_attention_grad, NULL},
};
