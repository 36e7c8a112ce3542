/* The parts of sid2 eval, beside the held-out loss. */
#ifndef SID2_CLI_EVAL_H
#define SID2_CLI_EVAL_H

int eval_fid(int argc, char **argv);
int eval_features(int argc, char **argv);
int eval_fvd(int argc, char **argv);
int eval_motion(int argc, char **argv);
int eval_convert_inception(int argc, char **argv);
int eval_convert_i3d(int argc, char **argv);

#endif
